//! The page's files, compiled in. They hold no secrets, and nothing is loaded from elsewhere.

/// Path, media type and text of each.
pub(super) const FILES: &[(&str, &str, &str)] = &[(
    "/",
    "text/html; charset=utf-8",
    "<!doctype html><meta charset=\"utf-8\"><title>mcp-ferry</title><p>mcp-ferry</p>\n",
)];

//! The tap's page: files that are part of the binary. They hold no secret and no data; all of that comes through the API,
//! which asks for the token. Everything in them is loaded from the admin listener itself.

/// Files of the page: path, content type, text.
pub(super) const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/api.js", JS, include_str!("page/api.js")),
    ("/app.js", JS, include_str!("page/app.js")),
    ("/arrows.js", JS, include_str!("page/arrows.js")),
    ("/bar.js", JS, include_str!("page/bar.js")),
    ("/bothlegs.js", JS, include_str!("page/bothlegs.js")),
    ("/cards.js", JS, include_str!("page/cards.js")),
    ("/charts.js", JS, include_str!("page/charts.js")),
    ("/connections.js", JS, include_str!("page/connections.js")),
    ("/curl.js", JS, include_str!("page/curl.js")),
    ("/detail.js", JS, include_str!("page/detail.js")),
    ("/diff.js", JS, include_str!("page/diff.js")),
    ("/dom.js", JS, include_str!("page/dom.js")),
    ("/exports.js", JS, include_str!("page/exports.js")),
    ("/filter.js", JS, include_str!("page/filter.js")),
    ("/format.js", JS, include_str!("page/format.js")),
    ("/har.js", JS, include_str!("page/har.js")),
    ("/json.js", JS, include_str!("page/json.js")),
    ("/keys.js", JS, include_str!("page/keys.js")),
    ("/legs.js", JS, include_str!("page/legs.js")),
    ("/lifelines.js", JS, include_str!("page/lifelines.js")),
    ("/list.js", JS, include_str!("page/list.js")),
    ("/mermaid.js", JS, include_str!("page/mermaid.js")),
    ("/page.js", JS, include_str!("page/page.js")),
    ("/rawlines.js", JS, include_str!("page/rawlines.js")),
    ("/sequence.js", JS, include_str!("page/sequence.js")),
    ("/series.js", JS, include_str!("page/series.js")),
    ("/sse.js", JS, include_str!("page/sse.js")),
    ("/store.js", JS, include_str!("page/store.js")),
    ("/tree.js", JS, include_str!("page/tree.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JS: &str = "text/javascript; charset=utf-8";

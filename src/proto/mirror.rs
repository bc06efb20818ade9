//! What of a message a modern upstream wants to see in headers too (2026-07-28, "Request Metadata" of Streamable HTTP).
//!
//! How a value is written in a header, which arguments of a tool are to be mirrored (`x-mcp-header` in its `inputSchema`),
//! and how they are found in a call. This module knows nothing of connections.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::object::Object;

/// The longest header value that is sent, in bytes. Servers take 8 to 16 KiB of headers in all.
pub const MAX_VALUE: usize = 8 * 1024;

/// Arguments of one tool that may go into headers; servers take about 100 header fields in all.
pub const MAX_PARAMETERS: usize = 64;

/// The member of a property's schema that asks for a header.
pub const ANNOTATION: &str = "x-mcp-header";

/// The longest name of a header, in bytes.
const MAX_NAME: usize = 256;

/// An argument of a tool that goes into a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What follows `Mcp-Param-` in the header's name.
    pub header: Box<str>,
    /// The names of the properties that lead to the argument.
    pub path: Box<[Box<str>]>,
}

/// A value as a header carries it: as it is, where it is plain ASCII, else in Base64 between markers
/// (2026-07-28, "Value Encoding").
#[must_use]
pub fn encoded(value: &str) -> String {
    let visible = |byte: u8| matches!(byte, b' ' | b'\t' | 0x21..=0x7e);
    // An empty field value is lost by some stacks.
    let plain = !value.is_empty()
        && value.bytes().all(visible)
        && value.trim_matches([' ', '\t']).len() == value.len()
        && !(value.starts_with("=?base64?") && value.ends_with("?="));
    if plain {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", BASE64_STANDARD.encode(value))
    }
}

/// The arguments that a tool's `inputSchema`, given as JSON text, wants in headers.
///
/// # Errors
/// When an annotation breaks a rule of 2026-07-28, "Schema Extension", or there are more than [`MAX_PARAMETERS`]; says
/// which. The tool is invalid then.
pub fn parameters(input_schema: &str) -> Result<Vec<Parameter>, String> {
    let mut found = Vec::new();
    if input_schema.contains(ANNOTATION) {
        let schema: Value =
            serde_json::from_str(input_schema).map_err(|error| error.to_string())?;
        search(&schema, Some(&mut Vec::new()), &mut found)?;
    }
    Ok(found)
}

/// Looks through a schema. `path` is how it is reached through `properties` alone, `None` when it is not.
fn search(
    schema: &Value,
    mut path: Option<&mut Vec<Box<str>>>,
    found: &mut Vec<Parameter>,
) -> Result<(), String> {
    let members = match schema {
        Value::Object(members) => members,
        Value::Array(schemas) => {
            return schemas.iter().try_for_each(|it| search(it, None, found));
        }
        _ => return Ok(()),
    };
    if let Some(name) = members.get(ANNOTATION) {
        let at = path.as_deref().filter(|path| !path.is_empty());
        let Some(at) = at else {
            return Err(format!(
                "{ANNOTATION} stands at a place that is not reached through \"properties\" alone"
            ));
        };
        found.push(annotated(name, members, at, found)?);
    }
    for (keyword, value) in members {
        match (keyword.as_str(), value) {
            // Data, not schemas.
            ("const" | "default" | "enum" | "examples", _) => {}
            ("properties", Value::Object(properties)) => {
                for (name, schema) in properties {
                    if let Some(path) = path.as_deref_mut() {
                        path.push(name.as_str().into());
                        search(schema, Some(path), found)?;
                        path.pop();
                    } else {
                        search(schema, None, found)?;
                    }
                }
            }
            (
                "$defs" | "definitions" | "patternProperties" | "dependentSchemas",
                Value::Object(schemas),
            ) => schemas
                .values()
                .try_for_each(|it| search(it, None, found))?,
            (_, value) => search(value, None, found)?,
        }
    }
    Ok(())
}

fn annotated(
    name: &Value,
    schema: &serde_json::Map<String, Value>,
    path: &[Box<str>],
    found: &[Parameter],
) -> Result<Parameter, String> {
    let Some(name) = name.as_str() else {
        return Err(format!("{ANNOTATION} is not a string"));
    };
    if found.len() >= MAX_PARAMETERS {
        return Err(format!("more than {MAX_PARAMETERS} {ANNOTATION}"));
    }
    if name.len() > MAX_NAME {
        return Err(format!("{ANNOTATION} has {} bytes", name.len()));
    }
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("{ANNOTATION} {name:?} is not a header name"));
    }
    if found.iter().any(|it| it.header.eq_ignore_ascii_case(name)) {
        return Err(format!("{ANNOTATION} {name:?} appears twice"));
    }
    if !is_primitive(schema) {
        return Err(format!(
            "{ANNOTATION} {name:?} stands at a parameter that is not a string, an integer or a boolean"
        ));
    }
    Ok(Parameter {
        header: name.into(),
        path: path.into(),
    })
}

/// RFC 9110 §5.6.2, `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a parameter is a string, an integer or a boolean, or one of these that may be `null`.
fn is_primitive(schema: &serde_json::Map<String, Value>) -> bool {
    let named = |kind: &Value| matches!(kind.as_str(), Some("string" | "integer" | "boolean"));
    let null = |kind: &Value| kind.as_str() == Some("null");
    match schema.get("type") {
        Some(Value::Array(kinds)) => {
            kinds.iter().any(named) && kinds.iter().all(|kind| named(kind) || null(kind))
        }
        Some(kind) => named(kind),
        // What Python's SDK writes for an optional argument.
        None => ["anyOf", "oneOf"].iter().any(|keyword| {
            let choices = schema.get(*keyword).and_then(Value::as_array);
            choices.is_some_and(|choices| {
                let kinds = || choices.iter().filter_map(|choice| choice.get("type"));
                kinds().count() == choices.len()
                    && kinds().any(named)
                    && kinds().all(|kind| named(kind) || null(kind))
            })
        }),
    }
}

/// The value of an argument as text, from the `arguments` of a call: a string as it is, an integer in decimal, a boolean as
/// `true` or `false`. `None` when it is not there, `null`, or no primitive: then there is no header.
#[must_use]
pub fn argument(arguments: &str, path: &[Box<str>]) -> Option<String> {
    let (name, rest) = path.split_first()?;
    let object = Object::parse(arguments)?;
    let value = object.get(name)?;
    if !rest.is_empty() {
        return argument(value, rest);
    }
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok(),
        b't' | b'f' => Some(value.to_owned()),
        b'-' | b'0'..=b'9' => Some(decimal(value)),
        _ => None,
    }
}

/// An integer in decimal, however it was written; a number with a fraction stays as it is, for the server to refuse.
fn decimal(number: &str) -> String {
    if number.parse::<i64>().is_ok() {
        return number.to_owned();
    }
    match number.parse::<f64>() {
        // Integers up to 2^53 are exact; the specification allows no larger ones.
        Ok(value) if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_991.0 => {
            format!("{value:.0}")
        }
        _ => number.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_the_specification_shows() {
        let cases = [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", "=?base64??="),
        ];
        for (value, header) in cases {
            assert_eq!(encoded(value), header);
        }
    }

    #[test]
    fn annotations_are_found_where_properties_lead() {
        let schema = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},
            "x-mcp-header":{"type":"string"},
            "deep":{"type":"object","properties":{"n":{"type":["integer","null"],"x-mcp-header":"N"}}},
            "maybe":{"anyOf":[{"type":"string"},{"type":"null"}],"x-mcp-header":"Maybe"}}}"#;
        let found = parameters(schema).expect("valid");
        let mut headers: Vec<(&str, String)> = found
            .iter()
            .map(|it| (&*it.header, it.path.join(".")))
            .collect();
        headers.sort();
        assert_eq!(
            headers,
            [
                ("Maybe", "maybe".to_owned()),
                ("N", "deep.n".to_owned()),
                ("Region", "region".to_owned())
            ]
        );
    }

    #[test]
    fn invalid_annotations_are_told() {
        let property = |schema: &str| {
            parameters(&format!(
                r#"{{"type":"object","properties":{{"a":{schema}}}}}"#
            ))
        };
        for schema in [
            r#"{"type":"string","x-mcp-header":""}"#,
            r#"{"type":"string","x-mcp-header":"a b"}"#,
            r#"{"type":"string","x-mcp-header":"a\r\nb"}"#,
            r#"{"type":"string","x-mcp-header":7}"#,
            r#"{"type":"number","x-mcp-header":"A"}"#,
            r#"{"type":"object","x-mcp-header":"A"}"#,
            r#"{"x-mcp-header":"A"}"#,
            r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#,
            r#"{"oneOf":[{"type":"string","x-mcp-header":"A"}]}"#,
            r#"{"items":[{"properties":{"b":{"type":"string","x-mcp-header":"A"}}}]}"#,
        ] {
            assert!(property(schema).is_err(), "{schema}");
        }
        let twice = r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#;
        assert!(parameters(twice).is_err());
        assert!(parameters(r#"{"x-mcp-header":"A","type":"string"}"#).is_err());
        assert!(parameters(r#"{"$defs":{"d":{"type":"string","x-mcp-header":"A"}}}"#).is_err());
        // An example that merely mentions the word is data.
        assert!(property(r#"{"type":"object","default":{"x-mcp-header":"A"}}"#).is_ok());
    }

    #[test]
    fn arguments_are_found_and_written() {
        let arguments = r#"{"s":"a\u00e4","i":42,"f":42.0,"e":1e3,"half":1.5,"b":true,"n":null,"o":{"x":-7},"l":[1]}"#;
        let at = |path: &[&str]| {
            let path: Vec<Box<str>> = path.iter().map(|name| (*name).into()).collect();
            argument(arguments, &path)
        };
        assert_eq!(at(&["s"]).as_deref(), Some("aä"));
        assert_eq!(at(&["i"]).as_deref(), Some("42"));
        assert_eq!(at(&["f"]).as_deref(), Some("42"));
        assert_eq!(at(&["e"]).as_deref(), Some("1000"));
        assert_eq!(at(&["half"]).as_deref(), Some("1.5"));
        assert_eq!(at(&["b"]).as_deref(), Some("true"));
        assert_eq!(at(&["o", "x"]).as_deref(), Some("-7"));
        for path in [&["n"][..], &["o"], &["l"], &["missing"], &["s", "x"], &[]] {
            assert_eq!(at(path), None, "{path:?}");
        }
    }
}

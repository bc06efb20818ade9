//! A JSON object taken apart: its members in order, names resolved, values as the text they were written in.
//!
//! For messages of which a few members change and everything else must survive as it is. Only the object itself is read;
//! what its values hold is not looked at.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::jsonrpc::quote;

/// The members of one object.
#[derive(Clone, Debug, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Object<'a> {
    /// Reads an object. `None` when the text is something else. Of members with the same name the last one counts, as in
    /// most readers (RFC 8259 §4).
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let Members(read) = serde_json::from_str(text).ok()?;
        let mut object = Self {
            members: Vec::with_capacity(read.len()),
        };
        for (name, value) in read {
            object.put(name, Cow::Borrowed(value.get()));
        }
        Some(object)
    }

    /// Reads an object and keeps those of its members that have one of these names. However many others there are, they
    /// cost one look each, which [`Self::parse`] does not promise.
    #[must_use]
    pub fn pick(text: &'a str, names: &[&str]) -> Option<Self> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let object = Pick(names).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        Some(object)
    }

    /// A member's value, as JSON text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.members.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_ref())
    }

    /// A member's value where it is a string, escapes resolved.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// Whether the member is there and not `null`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "null")
    }

    /// Gives a member this JSON text as its value, in its old place or at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Cow<'a, str>>) {
        self.put(Cow::Owned(name.to_owned()), value.into());
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let at = self.members.iter().position(|(own, _)| own == name)?;
        Some(self.members.remove(at).1)
    }

    /// Keeps the members whose names are wanted.
    pub fn retain(&mut self, mut wanted: impl FnMut(&str) -> bool) {
        self.members.retain(|(name, _)| wanted(name));
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let members = self.members.iter();
        members.map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn put(&mut self, name: Cow<'a, str>, value: Cow<'a, str>) {
        match self.members.iter_mut().find(|(own, _)| *own == name) {
            Some((_, own)) => *own = value,
            None => self.members.push((name, value)),
        }
    }
}

/// Writes the object as JSON.
impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (number, (name, value)) in self.members.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{}:{value}", quote(name))?;
        }
        f.write_str("}")
    }
}

/// The elements of a JSON array, as the text they were written in. `None` when the text is something else.
#[must_use]
pub fn elements(text: &str) -> Option<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    Some(elements.into_iter().map(RawValue::get).collect())
}

/// Writes JSON texts as an array.
#[must_use]
pub fn array<T: AsRef<str>>(elements: &[T]) -> String {
    let texts: Vec<&str> = elements.iter().map(AsRef::as_ref).collect();
    format!("[{}]", texts.join(","))
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Reads the members that have one of these names.
struct Pick<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Pick<'_> {
    type Value = Object<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Object::default();
        while let Some((Name(name), value)) = map.next_entry::<Name<'_>, &RawValue>()? {
            if self.0.contains(&name.as_ref()) {
                object.put(name, Cow::Borrowed(value.get()));
            }
        }
        Ok(object)
    }
}

/// A name without a copy, where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_members_that_are_picked_the_last_one_counts_and_others_are_left() {
        let text = r#"{"a":1,"b":{"a":2},"\u0061":[3]} "#;
        let object = Object::pick(text, &["a", "c"]).expect("an object");
        assert_eq!((object.get("a"), object.get("b")), (Some("[3]"), None));
        for text in ["[]", r#"{"a":1"#, r#"{"a":1} x"#] {
            assert!(Object::pick(text, &["a"]).is_none(), "{text}");
        }
    }

    #[test]
    fn members_keep_their_text_and_their_order() {
        let text = r#"{ "b" : 1.50 , "a\u0062" : { "x" : [ 1 ] } , "c":"\u00e4"}"#;
        let mut object = Object::parse(text).expect("an object");
        assert_eq!(object.get("b"), Some("1.50"));
        assert_eq!(object.get("ab"), Some(r#"{ "x" : [ 1 ] }"#));
        assert_eq!(object.string("c").as_deref(), Some("ä"));
        object.set("b", "2");
        object.set("d", "null");
        assert_eq!(object.remove("c").as_deref(), Some(r#""\u00e4""#));
        assert_eq!(
            object.to_string(),
            r#"{"b":2,"ab":{ "x" : [ 1 ] },"d":null}"#
        );
        assert!(!object.has("d") && object.has("b"));
    }

    #[test]
    fn what_is_no_object_is_told() {
        assert!(Object::parse("[]").is_none() && Object::parse("{").is_none());
        assert!(elements("{}").is_none());
        assert_eq!(elements("[1, \"a\"]"), Some(vec!["1", "\"a\""]));
    }

    #[test]
    fn of_two_members_with_one_name_the_last_counts() {
        let object = Object::parse(r#"{"a":1,"a":2}"#).expect("an object");
        assert_eq!(object.to_string(), r#"{"a":2}"#);
    }
}

//! Typed reading of a JSON object whose errors name the key by its full path (`ipam.type`, `ips[0].address`).
//!
//! As in the protocol's own libraries, `null` and the empty string mean the same as an absent key. A wrong JSON type is
//! error 6; a value that breaks a rule is error 7.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::error::{CniError, excerpt};

pub(super) struct Fields<'a> {
    /// What comes before a key in messages: empty, or a path that ends in a dot.
    prefix: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The object `value`, which messages call `name`. Messages name its keys without a prefix.
    pub(super) fn whole(name: &str, value: &'a Value) -> Result<Self, CniError> {
        let map = value.as_object().ok_or_else(|| wrong_type(name, "an object", value))?;
        Ok(Self { prefix: String::new(), map })
    }

    fn inner(path: &str, value: &'a Value) -> Result<Self, CniError> {
        let map = value.as_object().ok_or_else(|| wrong_type(path, "an object", value))?;
        Ok(Self { prefix: format!("{path}."), map })
    }

    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<&'a str>, CniError> {
        let text = self.typed(key, "a string", Value::as_str)?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, CniError> {
        self.flag_or(key, false)
    }

    /// `absent` is the value of an absent key.
    pub(super) fn flag_or(&self, key: &str, absent: bool) -> Result<bool, CniError> {
        Ok(self.typed(key, "true or false", Value::as_bool)?.unwrap_or(absent))
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, key: &str) -> Result<Option<T>, CniError> {
        let number = self.typed(key, "an integer", Value::as_i64)?;
        let fit = |number| {
            T::try_from(number).map_err(|_| CniError::invalid_config(format!("{} is {number}", self.path(key))))
        };
        number.map(fit).transpose()
    }

    /// A string that `T` understands.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Option<T>, CniError> {
        self.string(key)?.map(|text| parse(&self.path(key), text)).transpose()
    }

    pub(super) fn strings(&self, key: &str) -> Result<Vec<&'a str>, CniError> {
        let read = |(path, item): (String, &'a Value)| item.as_str().ok_or_else(|| wrong_type(&path, "a string", item));
        self.items(key)?.map(read).collect()
    }

    pub(super) fn all_parsed<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Vec<T>, CniError> {
        let path = self.path(key);
        self.strings(key)?.into_iter().map(|text| parse(&path, text)).collect()
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Fields<'a>>, CniError> {
        self.value(key).map(|value| Fields::inner(&self.path(key), value)).transpose()
    }

    pub(super) fn objects(&self, key: &str) -> Result<Vec<Fields<'a>>, CniError> {
        self.items(key)?.map(|(path, item)| Fields::inner(&path, item)).collect()
    }

    fn items(&self, key: &str) -> Result<impl Iterator<Item = (String, &'a Value)>, CniError> {
        let path = self.path(key);
        let items = self.typed(key, "a list", Value::as_array)?.into_iter().flatten();
        Ok(items.enumerate().map(move |(index, item)| (format!("{path}[{index}]"), item)))
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, CniError> {
        let read = |value| read(value).ok_or_else(|| wrong_type(&self.path(key), expected, value));
        self.value(key).map(read).transpose()
    }
}

fn parse<T: FromStr<Err: Display>>(path: &str, text: &str) -> Result<T, CniError> {
    text.parse().map_err(|problem: T::Err| {
        CniError::invalid_config(format!("{path} has {}", excerpt(&text.into()))).with_details(problem.to_string())
    })
}

fn wrong_type(path: &str, expected: &str, value: &Value) -> CniError {
    CniError::decode(format!("{path} must be {expected}, not {}", excerpt(value)))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde_json::json;

    use super::*;

    #[test]
    fn absent_null_and_empty_are_the_same() {
        let value = json!({"null": null, "empty": ""});
        let fields = Fields::whole("it", &value).unwrap();
        for key in ["absent", "null", "empty"] {
            assert_eq!(fields.string(key), Ok(None), "{key}");
        }
        for key in ["absent", "null"] {
            assert_eq!(fields.flag(key), Ok(false), "{key}");
            assert_eq!(fields.number::<u32>(key), Ok(None), "{key}");
            assert_eq!(fields.strings(key), Ok(vec![]), "{key}");
            assert!(fields.object(key).unwrap().is_none(), "{key}");
        }
    }

    #[test]
    fn a_wrong_type_is_a_decode_error_that_names_the_path() {
        let value = json!({"a": {"s": 1, "n": "x", "b": "x", "l": [1], "o": [[]], "f": 1.5}});
        let fields = Fields::whole("it", &value).unwrap().object("a").unwrap().unwrap();
        for (path, error) in [
            ("a.s", fields.string("s").unwrap_err()),
            ("a.n", fields.number::<u32>("n").unwrap_err()),
            ("a.f", fields.number::<u32>("f").unwrap_err()),
            ("a.b", fields.flag("b").unwrap_err()),
            ("a.l[0]", fields.strings("l").unwrap_err()),
            ("a.o[0]", fields.objects("o").err().unwrap()),
            ("a.s", fields.object("s").err().unwrap()),
        ] {
            assert_eq!(u32::from(error.code), 6, "{path}");
            assert!(error.msg.starts_with(&format!("{path} must be")), "{path}: {}", error.msg);
        }
        let error = Fields::whole("the input", &json!([])).err().unwrap();
        assert_eq!(error.msg, "the input must be an object, not []");
    }

    #[test]
    fn a_value_that_breaks_a_rule_is_a_configuration_error_that_names_the_path() {
        let value = json!({"n": -1, "ip": "10.0.0.256", "ips": ["10.0.0.1", "x"]});
        let fields = Fields::whole("it", &value).unwrap();
        for (path, error) in [
            ("n", fields.number::<u32>("n").unwrap_err()),
            ("ip", fields.parsed::<IpAddr>("ip").unwrap_err()),
            ("ips", fields.all_parsed::<IpAddr>("ips").unwrap_err()),
        ] {
            assert_eq!(u32::from(error.code), 7, "{path}");
            assert!(error.msg.starts_with(path), "{path}: {}", error.msg);
        }
    }
}

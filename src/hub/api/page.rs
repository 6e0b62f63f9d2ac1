//! A page of users as JupyterHub writes it, bounded while it is read: what is too much is refused
//! before it takes memory.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Users on one page; a hub gives at most 200 (`api_page_max_limit`), or all without pages.
const MOST_ON_A_PAGE: usize = 10_000;
/// A user's groups; some directories have hundreds.
const MOST_GROUPS: usize = 2_000;
/// A user's running servers.
const MOST_SERVERS: usize = 200;
/// JupyterHub's own bound on a name, characters.
const LONGEST_NAME: usize = 255;
/// What is looked at in a spawner's state is a name with something before and behind it, bytes.
const LONGEST_WORD: usize = 510;

/// Users, and the offset at which the next page begins.
#[derive(Debug)]
pub(super) struct Page {
    pub users: Vec<User>,
    pub next: Option<u64>,
}

impl Page {
    /// Reads an answer; without pages it is a list of all.
    pub fn read(body: &[u8]) -> Result<Page, String> {
        let is_list = body.trim_ascii_start().starts_with(b"[");
        let read = || match is_list {
            true => {
                let Few(users): Few<User, MOST_ON_A_PAGE> = serde_json::from_slice(body)?;
                Ok(Page { users, next: None })
            }
            false => {
                let paged: Paged = serde_json::from_slice(body)?;
                Ok(Page {
                    users: paged.items.0,
                    next: paged.pagination.next.map(|next| next.offset),
                })
            }
        };
        // Its text may quote what was read.
        read().map_err(|error: serde_json::Error| {
            let text = error.to_string();
            text.chars()
                .take(200)
                .flat_map(char::escape_debug)
                .collect()
        })
    }
}

#[derive(Deserialize)]
struct Paged {
    items: Few<User, MOST_ON_A_PAGE>,
    #[serde(rename = "_pagination")]
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    next: Option<Next>,
}

#[derive(Deserialize)]
struct Next {
    offset: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub name: Name,
    pub groups: Option<Few<Name, MOST_GROUPS>>,
    pub last_activity: Option<Name>,
    pub servers: Option<Servers>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Server {
    /// The spawner's own business: of any shape, and absent without the scope for it.
    #[serde(default, deserialize_with = "state_if_any")]
    pub state: Option<State>,
}

/// A text of at most [`LONGEST_NAME`] characters.
#[derive(Debug)]
pub(super) struct Name(pub String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                match text.chars().nth(LONGEST_NAME) {
                    None => Ok(Name(text.to_owned())),
                    Some(_) => Err(E::custom(format!(
                        "a text of more than {LONGEST_NAME} characters"
                    ))),
                }
            }
        }
        from.deserialize_str(Text)
    }
}

/// A list of at most so many.
#[derive(Debug)]
pub(super) struct Few<T, const MOST: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List<T, const MOST: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
            type Value = Few<T, MOST>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST}")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some(one) = list.next_element()? {
                    if found.len() == MOST {
                        return Err(A::Error::custom(format!("a list of more than {MOST}")));
                    }
                    found.push(one);
                }
                Ok(Few(found))
            }
        }
        from.deserialize_seq(List(PhantomData))
    }
}

/// A user's servers by their names.
#[derive(Debug)]
pub(super) struct Servers(pub Vec<(Name, Server)>);

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Servers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MOST_SERVERS} servers by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Servers, A::Error> {
                let mut found = Vec::new();
                while let Some(one) = map.next_entry()? {
                    if found.len() == MOST_SERVERS {
                        let why = format!("a user with more than {MOST_SERVERS} servers");
                        return Err(A::Error::custom(why));
                    }
                    found.push(one);
                }
                Ok(Servers(found))
            }
        }
        from.deserialize_map(Map)
    }
}

/// What is looked at in a spawner's state: SystemdSpawner's `unit_name`, DockerSpawner's
/// `object_id` (before 0.10 `container_id`); of a spawner that has another do it (wrapspawner's), what that
/// one's says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub unit_name: Option<String>,
    pub object_id: Option<String>,
    pub container_id: Option<String>,
}

impl State {
    /// This one, and what it does not say of another.
    fn or(self, other: State) -> State {
        State {
            unit_name: self.unit_name.or(other.unit_name),
            object_id: self.object_id.or(other.object_id),
            container_id: self.container_id.or(other.container_id),
        }
    }
}

/// Whatever is no text counts as absent.
struct Word(Option<String>);

/// A visitor's answers to shapes that say nothing here; nothing of them is kept.
macro_rules! anything_else {
    ($nothing:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($nothing)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok($nothing)
        }
    };
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Word;
            anything_else!(Word(None));
            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                let good = !text.is_empty() && text.len() <= LONGEST_WORD;
                Ok(Word(good.then(|| text.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Word, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Word(None))
            }
        }
        from.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = State;
            anything_else!(State::default());
            fn visit_str<E: Error>(self, _: &str) -> Result<State, E> {
                Ok(State::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<State, A::Error> {
                let (mut state, mut child) = (State::default(), State::default());
                while let Some(Word(key)) = map.next_key()? {
                    let place = match key.as_deref() {
                        Some("child_state") => {
                            child = map.next_value()?;
                            continue;
                        }
                        Some("unit_name") => &mut state.unit_name,
                        Some("object_id") => &mut state.object_id,
                        Some("container_id") => &mut state.container_id,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    let Word(word) = map.next_value()?;
                    *place = word;
                }
                Ok(state.or(child))
            }
        }
        from.deserialize_any(Any)
    }
}

/// `null` is what a hub writes where the scope is missing, as is leaving it out.
fn state_if_any<'de, D: Deserializer<'de>>(from: D) -> Result<Option<State>, D::Error> {
    Option::deserialize(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(users: &str) -> Result<Page, String> {
        Page::read(format!(r#"{{"items":[{users}],"_pagination":{{"next":null}}}}"#).as_bytes())
    }

    fn why(users: &str) -> String {
        page(users).unwrap_err()
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_and_what_is_within_is_read() {
        let name = |length: usize| format!(r#"{{"name":"{}"}}"#, "é".repeat(length));
        assert_eq!(page(&name(255)).unwrap().users[0].name.0.len(), 510);
        assert!(why(&name(256)).contains("more than 255 characters"));
        let groups = |count: usize| {
            let all = vec![r#""g""#; count].join(",");
            format!(r#"{{"name":"a","groups":[{all}]}}"#)
        };
        let found = page(&groups(MOST_GROUPS)).unwrap();
        assert_eq!(found.users[0].groups.as_ref().unwrap().0.len(), MOST_GROUPS);
        assert!(why(&groups(MOST_GROUPS + 1)).contains("a list of more than 2000"));
        let servers = |count: usize| {
            let all: Vec<String> = (0..count).map(|n| format!(r#""s{n}":{{}}"#)).collect();
            format!(r#"{{"name":"a","servers":{{{}}}}}"#, all.join(","))
        };
        let found = page(&servers(MOST_SERVERS)).unwrap();
        assert_eq!(
            found.users[0].servers.as_ref().unwrap().0.len(),
            MOST_SERVERS
        );
        assert!(why(&servers(MOST_SERVERS + 1)).contains("more than 200 servers"));
        let users = vec![r#"{"name":"a"}"#; MOST_ON_A_PAGE + 1].join(",");
        assert!(why(&users).contains("a list of more than 10000"));
        let long = format!(r#"{{"name":"a","servers":{{"{}":{{}}}}}}"#, "s".repeat(256));
        assert!(why(&long).contains("more than 255 characters"));
    }

    #[test]
    fn a_state_too_long_or_of_another_shape_says_nothing() {
        let state = |json: &str| serde_json::from_str::<State>(json).unwrap();
        let unit = state(r#"{"x":{"unit_name":"no"},"unit_name":"a","object_id":["b"]}"#);
        assert_eq!(unit.unit_name.as_deref(), Some("a"));
        assert_eq!((unit.object_id, unit.container_id), (None, None));
        let wrapped = r#"{"profile":"a","child_conf":{"unit_name":"no"},
            "child_state":{"pid":7,"child_state":{"unit_name":"b"},"object_id":"c"}}"#;
        let wrapped = state(wrapped);
        assert_eq!(wrapped.unit_name.as_deref(), Some("b"));
        assert_eq!(wrapped.object_id.as_deref(), Some("c"));
        let long = format!(r#"{{"unit_name":"{}"}}"#, "a".repeat(LONGEST_WORD + 1));
        for json in [
            r#"{"child_state":[{"unit_name":"a"}]}"#,
            "true",
            "-7",
            "7",
            "1.5",
            "\"unit_name\"",
            "[{}]",
            "null",
            &long,
        ] {
            assert_eq!(state(json), State::default(), "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"a-z0-9_ .-]{0,80}") {
            let _ = Page::read(text.as_bytes());
        }
    }
}

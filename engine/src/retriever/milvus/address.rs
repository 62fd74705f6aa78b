//! `milvus://[user:password@]host:port/[database/]collection`: where a collection is.
//!
//! User and password may hold any character, percent-encoded where it would mean something else. They are never shown: an error names the
//! address without them.

use std::fmt;

use crate::{Error, Result};

const SCHEME: &str = "milvus://";
/// Longest name of a database or collection that Milvus takes.
const MOST_NAME_BYTES: usize = 255;

/// Whether an index's place is a collection on a Milvus server.
pub fn is_milvus(place: &str) -> bool {
    place.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// A collection on a server. Shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Name, IPv4 address, or IPv6 address in brackets.
    pub host: String,
    /// TCP port; 19530 is usual.
    pub port: u16,
    /// The server's default one where none is named.
    pub database: Option<String>,
    /// The collection's name.
    pub collection: String,
    /// User and password.
    pub(super) login: Option<(String, String)>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}:{}/", self.host, self.port)?;
        if let Some(database) = &self.database {
            write!(f, "{database}/")?;
        }
        f.write_str(&self.collection)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Address {
    /// Reads an address; anything that is not exactly one is an error, which shows no password.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |problem: &str| {
            let form = "milvus://[user:password@]host:port/[database/]collection expected";
            Error::config("index", format!("{:?}: {problem}; {form}", hidden(text)))
        };
        if !is_milvus(text) {
            return Err(bad("no address of a Milvus server"));
        }
        // A password's @ is %40, so that the last one ends it, whatever was meant.
        let (login, place) = match text[SCHEME.len()..].rsplit_once('@') {
            Some((login, place)) => (Some(read_login(login).map_err(bad)?), place),
            None => (None, &text[SCHEME.len()..]),
        };
        let (server, path) = place.split_once('/').ok_or_else(|| bad("no collection"))?;
        let (host, port) = server.rsplit_once(':').ok_or_else(|| bad("no port"))?;
        if !is_host(host) {
            return Err(bad("the host is none"));
        }
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0).ok_or_else(|| bad("the port is none"))?;
        let (database, collection) = match path.split_once('/') {
            Some((database, collection)) => (Some(database), collection),
            None => (None, path),
        };
        if !is_name(collection) || !database.is_none_or(is_name) {
            return Err(bad("names are letters, digits and _, and begin with no digit"));
        }
        Ok(Self { host: host.into(), port, database: database.map(Into::into), collection: collection.into(), login })
    }
}

/// The address without what stands before its last @.
fn hidden(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, place)) => format!("{SCHEME}…@{place}"),
        None => text.to_owned(),
    }
}

fn read_login(text: &str) -> Result<(String, String), &'static str> {
    let (user, password) = text.split_once(':').ok_or("no password after the user")?;
    if user.is_empty() || password.contains([':', '/', '@']) {
        return Err("user:password with : as %3A, / as %2F, @ as %40, % as %25");
    }
    Ok((decoded(user)?, decoded(password)?))
}

/// `%40` is `@`.
fn decoded(text: &str) -> Result<String, &'static str> {
    const BAD: &str = "user and password: % and two hexadecimal digits";
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| rest.get(at).and_then(|b| (*b as char).to_digit(16)).ok_or(BAD);
        bytes.push((digit(0)? * 16 + digit(1)?) as u8);
        rest = &rest[2..];
    }
    // A header holds them.
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control)).ok_or(BAD)
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn is_name(name: &str) -> bool {
    let known = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    known && (1..=MOST_NAME_BYTES).contains(&name.len()) && !name.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_passwords() {
        let address = Address::parse("milvus://db.example:19530/wiki").unwrap();
        let expected =
            Address { host: "db.example".into(), port: 19530, database: None, collection: "wiki".into(), login: None };
        assert_eq!(address, expected);
        assert_eq!(address.to_string(), "milvus://db.example:19530/wiki");
        let address = Address::parse("milvus://root:p%40ss%3a%25@[::1]:1/main/wiki_2").unwrap();
        assert_eq!((address.host.as_str(), address.database.as_deref()), ("[::1]", Some("main")));
        assert_eq!(address.login, Some(("root".into(), "p@ss:%".into())));
        assert_eq!(format!("{address} {address:?}"), "milvus://[::1]:1/main/wiki_2 milvus://[::1]:1/main/wiki_2");
        assert!(is_milvus("MILVUS://x") && !is_milvus("milvus:/x") && !is_milvus("http://x") && !is_milvus("mílvus:"));
    }

    #[test]
    fn what_is_no_address_is_an_error_without_its_password() {
        for (text, problem) in [
            ("milvus://", "no collection"),
            ("milvus://h:1", "no collection"),
            ("milvus://h/c", "no port"),
            ("milvus://:1/c", "the host"),
            ("milvus://h h:1/c", "the host"),
            ("milvus://[::g]:1/c", "the host"),
            ("milvus://::1:1/c", "the host"),
            ("milvus://h:0/c", "the port"),
            ("milvus://h:+1/c", "the port"),
            ("milvus://h:65536/c", "the port"),
            ("milvus://h:/c", "the port"),
            ("milvus://h:1/", "names"),
            ("milvus://h:1//c", "names"),
            ("milvus://h:1/a/b/c", "names"),
            ("milvus://h:1/c?x=1", "names"),
            ("milvus://h:1/1c", "names"),
            ("milvus://root:SECRET/@h:1/c", "%2F"),
            ("milvus://root:SECRET@SECRET@h:1/c", "%40"),
            ("milvus://root:SECRET%4@h:1/c", "hexadecimal"),
            ("milvus://root:SECRET%zz@h:1/c", "hexadecimal"),
            ("milvus://root:SECRET%0a@h:1/c", "hexadecimal"),
            ("milvus://SECRET@h:1/c", "no password"),
            ("milvus://:SECRET@h:1/c", "%3A"),
            ("milvus://root:SECRET@h:1", "no collection"),
            ("http://root:SECRET@h:1/c", "no address"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("expected"), "{text}: {error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "(milvus://)?\\PC{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert!(text.ends_with(&address.to_string()[SCHEME.len()..]));
            }
        }
    }
}

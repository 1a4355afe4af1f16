//! A document that lists a VM's addresses, in whichever of the platform's two forms: told apart by how it begins.

use super::imds::{self, ImdsError};
use super::nic::Nic;
use super::wireserver::{self, ParseError};

/// Why a document was not used. Whether a retry helps is the cause's to say.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error(transparent)]
    WireServer(#[from] ParseError),
    #[error(transparent)]
    Imds(#[from] ImdsError),
    /// Neither form. A retry helps only once the document is another.
    #[error("neither the wire server's XML nor the JSON of instance metadata: it begins with {0:?}")]
    Unknown(String),
    /// A retry helps only if it was caught while being written.
    #[error("the document is empty")]
    Empty,
}

/// Reads either form.
pub fn parse(text: &str) -> Result<Vec<Nic>, ListingError> {
    // A byte order mark is allowed in front of both, and the wire server sends one.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.trim_start().chars().next() {
        Some('<') => Ok(wireserver::parse(text)?),
        Some('{') => Ok(imds::parse(text)?),
        Some(_) => Err(ListingError::Unknown(text.trim_start().chars().take(20).collect())),
        None => Err(ListingError::Empty),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const XML: &str = "<Interfaces><Interface MacAddress=\"000D3AF9DCA6\"/></Interfaces>";
    const JSON: &str = "{\"interface\": [{\"macAddress\": \"000D3AF9DCA6\"}]}";

    #[test]
    fn the_two_forms_are_told_apart_by_their_content() {
        for text in [XML.to_owned(), JSON.to_owned(), format!("\u{feff}{XML}"), format!("\n {JSON}\n")] {
            let nics = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(nics[0].mac.to_string(), "00:0d:3a:f9:dc:a6");
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_its_beginning() {
        assert!(parse("hello").unwrap_err().to_string().contains("begins with \"hello\""));
        assert!(matches!(parse(" \n"), Err(ListingError::Empty)));
        assert!(matches!(parse("[]"), Err(ListingError::Unknown(_))));
        assert!(matches!(parse("{}"), Err(ListingError::Imds(_))));
        assert!(matches!(parse("<a/>"), Err(ListingError::WireServer(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}

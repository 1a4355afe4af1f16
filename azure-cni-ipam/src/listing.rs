//! A listing of a VM's addresses in either of the platform's two forms, which differ in their first character.

use crate::imds::{self, ImdsError};
use crate::nic::Listing;
use crate::wireserver::{self, ParseError};

/// Why a document was not used. The cause says whether a retry helps.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    #[error(transparent)]
    WireServer(#[from] ParseError),
    #[error(transparent)]
    Imds(#[from] ImdsError),
    /// Neither form. A retry helps only with another document.
    #[error("neither the wire server's XML nor the JSON of instance metadata: it begins with {0:?}")]
    Unknown(String),
    /// A retry helps only if the document was being written.
    #[error("the document is empty")]
    Empty,
}

/// Reads either form.
pub fn parse(text: &str) -> Result<Listing, ListingError> {
    // Both forms may begin with a byte order mark, and the wire server sends one.
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
    fn the_form_is_recognized_by_its_content() {
        for text in [XML.to_owned(), JSON.to_owned(), format!("\u{feff}{XML}"), format!("\n {JSON}\n")] {
            let listing = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(listing.nics[0].mac.to_string(), "00:0d:3a:f9:dc:a6");
        }
    }

    #[test]
    fn another_form_is_refused_with_its_beginning() {
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

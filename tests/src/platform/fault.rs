//! The ways in which a service of the platform can fail.

use std::time::Duration;

use super::http::Reply;

/// Longer than any client of ours waits.
const SLOW: Duration = Duration::from_secs(70);
/// More than any client of ours reads.
const HUGE_BYTES: usize = 32 << 20;

/// One way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Accepts the request and does not answer.
    Slow,
    /// Stops in the middle of the answer.
    Truncated,
    /// Lists another VM's interface.
    WrongMac,
    /// Answers with an empty body.
    Empty,
    /// Answers with this status.
    Status(u16),
    /// Leads elsewhere.
    Redirect,
    /// Answers with more than a client reads.
    Huge,
    /// Answers with XML that has a document type and an entity.
    Dtd,
}

impl Fault {
    /// The response in place of an answer.
    pub(super) fn spoil(self, body: &str) -> Reply {
        match self {
            Self::Slow => Reply { after: SLOW, ..Reply::whole("200 OK", "", body) },
            Self::Truncated => {
                let mut reply = Reply::whole("200 OK", "", body);
                reply.bytes.truncate(reply.bytes.len() - body.len() / 2);
                reply
            }
            // The last byte of a MAC, in either form of the document.
            Self::WrongMac => Reply::whole("200 OK", "", &body.replace("000D3AF9", "000D3AFF")),
            Self::Empty => Reply::whole("200 OK", "", ""),
            Self::Status(status) => Reply::whole(&format!("{status} As configured"), "", "no"),
            Self::Redirect => Reply::whole("302 Found", "Location: http://198.51.100.10/\r\n", ""),
            Self::Huge => Reply::whole("200 OK", "", &"x".repeat(HUGE_BYTES)),
            Self::Dtd => {
                let dtd = "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/hostname\">]>";
                Reply::whole("200 OK", "", &format!("{dtd}{body}"))
            }
        }
    }
}

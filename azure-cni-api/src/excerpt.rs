//! Texts from outside, short enough for a message. A document, an answer or an argument may be a megabyte long, and may hold
//! what a terminal obeys.

/// Characters of one value in a message.
const LONGEST_VALUE: usize = 80;

/// Characters of a whole message that quotes several of them.
const LONGEST_MESSAGE: usize = 1000;

/// The beginning of a value from outside, on one line.
pub fn excerpt(text: &str) -> String {
    beginning(text, LONGEST_VALUE)
}

/// The beginning of a message that may quote values from outside, on one line.
pub fn bounded(message: &str) -> String {
    beginning(message, LONGEST_MESSAGE)
}

fn beginning(text: &str, longest: usize) -> String {
    let mut characters = text.chars();
    let mut short = String::new();
    for character in characters.by_ref().take(longest) {
        if character.is_control() { short.extend(character.escape_default()) } else { short.push(character) }
    }
    if characters.next().is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_itself_and_a_long_one_its_beginning() {
        assert_eq!(excerpt("10.240.0.5"), "10.240.0.5");
        assert_eq!(excerpt(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(excerpt(&"é".repeat(1 << 20)), format!("{}...", "é".repeat(80)));
        assert!(bounded(&"x".repeat(1 << 20)).len() < 1010);
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(excerpt("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
    }
}

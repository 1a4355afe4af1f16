//! Room for words in a drawing, so that they do not lie on each other.

/// Letters are about this wide, and lines this high, in the drawings' type.
const LETTER: f64 = 6.1;
pub(super) const LINE: f64 = 12.0;

/// Of a text in a drawing, about.
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * LETTER
}

/// A text in lines that are as wide as a drawing at most.
pub(super) fn lines(text: &str, most: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + width(word) + LETTER <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Places for things that would like to be at `wanted`, at least `gap` apart and up to `last`, in the same order.
pub(super) fn apart(wanted: &[f64], gap: f64, last: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));
    let mut places = wanted.to_vec();
    for pair in order.windows(2) {
        places[pair[1]] = places[pair[1]].max(places[pair[0]] + gap);
    }
    // What was pushed out at the end pushes the others back.
    let mut free_to = last;
    for index in order.into_iter().rev() {
        places[index] = places[index].min(free_to);
        free_to = places[index] - gap;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_title_goes_on_in_the_next_line() {
        let title = "pod to Internet, behind the VM's address, one wire from the VM";
        let lines = lines(title, 340.0);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines.join(" "), title);
        assert!(lines.iter().all(|line| width(line) <= 340.0));
    }

    #[test]
    fn names_at_lines_ends_are_a_line_apart_in_the_order_of_the_ends() {
        let heights = apart(&[90.0, 50.0, 91.0, 52.0], 12.0, 95.0);
        assert_eq!(heights, [83.0, 50.0, 95.0, 62.0]);
    }
}

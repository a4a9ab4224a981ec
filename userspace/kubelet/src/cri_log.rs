//! Pure: one line of a container's log file (the CRI log format, KEP "CRI logging"):
//! `<RFC 3339 time> <stdout|stderr> <tags> <content>`, where the tag `P` marks a line that goes on in the next.

use jiff::Timestamp;

/// One line of a log file.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    /// The time as written.
    pub(crate) time_text: &'a [u8],
    /// Without the line's end.
    pub(crate) content: &'a [u8],
    /// Whether the program's line ends here.
    pub(crate) complete: bool,
}

impl<'a> Line<'a> {
    /// Reads a line, without or with its end; nothing if it is not in the format.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut parts = bytes.splitn(4, |byte| *byte == b' ');
        let (time_text, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        if stream != b"stdout" && stream != b"stderr" {
            return None;
        }
        let complete = tags.split(|byte| *byte == b':').next() != Some(b"P");
        Some(Self {
            time_text,
            content: parts.next().unwrap_or_default(),
            complete,
        })
    }

    /// When it was written.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time_text).ok()?.parse().ok()
    }

    /// Appends it as a client sees it.
    pub(crate) fn render(&self, timestamps: bool, out: &mut Vec<u8>) {
        if timestamps {
            out.extend_from_slice(self.time_text);
            out.push(b' ');
        }
        out.extend_from_slice(self.content);
        if self.complete {
            out.push(b'\n');
        }
    }
}

/// Where in a file's end its last `lines` lines begin, given the bytes of that end; nothing if it holds fewer.
///
/// An unfinished last line counts as one.
pub(crate) fn start_of_tail(end: &[u8], lines: u64) -> Option<usize> {
    let body = end.strip_suffix(b"\n").unwrap_or(end);
    let mut left = lines;
    if left == 0 {
        return Some(end.len());
    }
    for (position, byte) in body.iter().enumerate().rev() {
        if *byte == b'\n' {
            left -= 1;
            if left == 0 {
                return Some(position + 1);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_lines_are_joined() {
        let mut out = Vec::new();
        for line in [
            "2026-01-02T03:04:05.6Z stdout P ab",
            "2026-01-02T03:04:05.7Z stderr F c d",
        ] {
            Line::parse(line.as_bytes()).unwrap().render(false, &mut out);
        }
        assert_eq!(out, b"abc d\n");
    }

    #[test]
    fn an_empty_line_of_the_program_stays_a_line() {
        let mut out = Vec::new();
        Line::parse(b"2026-01-02T03:04:05Z stdout F \n")
            .unwrap()
            .render(false, &mut out);
        assert_eq!(out, b"\n");
    }

    #[test]
    fn what_is_no_log_line_is_left_out() {
        for text in ["", "x", "time stdin F x", "time stdout"] {
            assert_eq!(Line::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_tail_is_counted_in_lines() {
        let end = b"a\nb\nc\n";
        assert_eq!(start_of_tail(end, 1), Some(4));
        assert_eq!(start_of_tail(end, 2), Some(2));
        assert_eq!(start_of_tail(end, 3), None);
        assert_eq!(start_of_tail(b"a\nb\nc", 1), Some(4));
        assert_eq!(start_of_tail(end, 0), Some(6));
    }
}

//! Owns the view of a file without its comments and literals, so that no rule takes words for code.

/// The text with comments, strings and character literals replaced by spaces, line by line the same.
pub(crate) fn blank(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let end = literal_end(&characters, at);
        if end == at {
            code.push(characters[at]);
            at += 1;
        } else {
            let kept = |character: &char| if *character == '\n' { '\n' } else { ' ' };
            code.extend(characters[at..end].iter().map(kept));
            at = end;
        }
    }
    code
}

/// Where the comment or literal that begins `at` ends; `at` itself when none begins there.
fn literal_end(text: &[char], at: usize) -> usize {
    let next = text.get(at + 1).copied();
    match text[at] {
        '/' if next == Some('/') => find(text, at, &['\n']),
        '/' if next == Some('*') => comment_end(text, at),
        '"' => string_end(text, at + 1, '"'),
        '\'' if next == Some('\\') || text.get(at + 2) == Some(&'\'') => {
            string_end(text, at + 1, '\'')
        }
        'r' if begins_word(text, at) => {
            let hashes = text[at + 1..].iter().take_while(|character| **character == '#').count();
            if text.get(at + 1 + hashes) != Some(&'"') {
                return at;
            }
            let mut close = vec!['"'];
            close.resize(1 + hashes, '#');
            (find(text, at + 2 + hashes, &close) + close.len()).min(text.len())
        }
        _ => at,
    }
}

/// Whether an `r` begins a raw literal's prefix rather than ending a word: `r"` and `br"` do.
fn begins_word(text: &[char], at: usize) -> bool {
    let word_before = |at: usize| {
        at.checked_sub(1)
            .is_some_and(|before| text[before].is_alphanumeric() || text[before] == '_')
    };
    !word_before(at) || (text[at - 1] == 'b' && !word_before(at - 1))
}

fn comment_end(text: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    text.len()
}

fn string_end(text: &[char], start: usize, close: char) -> usize {
    let mut at = start;
    while at < text.len() && text[at] != close {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn find(text: &[char], start: usize, wanted: &[char]) -> usize {
    let found = text[start..].windows(wanted.len()).position(|window| window == wanted);
    found.map_or(text.len(), |offset| start + offset)
}

#[test]
fn the_checks_see_through_comments_and_literals() {
    let text = r##"let a = "unsafe \" {"; // dbg!(
/* todo!( /* nested */ { */ let b = br#"{ "unsafe" "#; let c: &'static str = x; let d = '{'; let e = '\'';
"##;
    let code = blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    for absent in ["unsafe", "dbg!", "todo!", "{", "nested"] {
        assert!(!code.contains(absent), "{absent} in {code}");
    }
    for present in ["let a =", "let b =", "&'static str = x;", "let d =", "let e ="] {
        assert!(code.contains(present), "{present} not in {code}");
    }
}

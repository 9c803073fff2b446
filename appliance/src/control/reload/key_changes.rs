//! The difference between two key files, by the keys' numbers: keys are never shown.

use crate::control::keys::Keys;

/// Returns one line for each difference.
pub(super) fn lines(old: &Keys, new: &Keys) -> Vec<String> {
    let find =
        |keys: &Keys, id: u8| keys.all().iter().find(|(own, _)| *own == id).map(|(_, key)| *key);
    let mut lines = Vec::new();
    for id in 0..=u8::MAX {
        match (find(old, id), find(new, id)) {
            (None, Some(_)) => lines.push(format!("added key {id}")),
            (Some(_), None) => lines.push(format!("removed key {id}")),
            (Some(before), Some(after)) if before != after => {
                lines.push(format!("changed key {id}"));
            }
            _ => {}
        }
    }
    if old.sign_with() != new.sign_with() {
        let shown = |id: Option<u8>| id.map_or("none".to_owned(), |id| id.to_string());
        let (from, to) = (shown(old.sign_with()), shown(new.sign_with()));
        lines.push(format!("changed the key that signs: {from} -> {to}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::keys::Purpose;

    #[test]
    fn keys_are_told_by_their_numbers() {
        let keys = |text: &str| Keys::parse("keys", text.as_bytes(), Purpose::Check).unwrap();
        let [a, b] = ["00", "11"].map(|digits| digits.repeat(16));
        let old = keys(&format!("7 {a} sign\n8 {a}\n9 {a}\n"));
        let new = keys(&format!("7 {a}\n8 {b} sign\n10 {a}\n"));
        let expected = [
            "changed key 8",
            "removed key 9",
            "added key 10",
            "changed the key that signs: 7 -> 8",
        ];
        assert_eq!(lines(&old, &new), expected);
        assert_eq!(lines(&old, &old), [""; 0]);
        assert_eq!(lines(&Keys::default(), &keys(&format!("7 {a}"))), ["added key 7"]);
    }
}

//! Names that look like personal data (GDPR article 4(1), and the identifiers of the HIPAA Safe Harbor list).
//!
//! Pure. A hint for authors, never a decision: what is sensitive is said in the model.

/// Runs of words that give a name away, each in the form that [`split`] makes of it.
const TELLTALE: &[&[&str]] = &[
    &["email"],
    &["e", "mail"],
    &["mail", "address"],
    &["phone"],
    &["telephone"],
    &["mobile", "number"],
    &["cell", "number"],
    &["fax"],
    &["ssn"],
    &["social", "security"],
    &["social", "insurance"],
    &["national", "id"],
    &["tax", "id"],
    &["passport"],
    &["driver", "license"],
    &["drivers", "license"],
    &["driving", "licence"],
    &["license", "plate"],
    &["iban"],
    &["bank", "account"],
    &["account", "number"],
    &["credit", "card"],
    &["card", "number"],
    &["cvv"],
    &["birthday"],
    &["birth", "date"],
    &["birthdate"],
    &["date", "of", "birth"],
    &["dob"],
    &["first", "name"],
    &["firstname"],
    &["given", "name"],
    &["last", "name"],
    &["lastname"],
    &["surname"],
    &["family", "name"],
    &["middle", "name"],
    &["maiden", "name"],
    &["full", "name"],
    &["fullname"],
    &["street"],
    &["home", "address"],
    &["postal", "address"],
    &["billing", "address"],
    &["shipping", "address"],
    &["ip", "address"],
    &["mac", "address"],
    &["user", "agent"],
    &["device", "id"],
    &["gender"],
    &["ethnicity"],
    &["religion"],
    &["salary"],
    &["password"],
    &["patient", "id"],
    &["medical", "record"],
    &["diagnosis"],
];

/// The telltale words in a field's name, as they would be written in it; `None` if nothing looks personal.
pub(super) fn looks_personal(name: &str) -> Option<String> {
    let words = split(name);
    TELLTALE
        .iter()
        .find(|telltale| words.windows(telltale.len()).any(|run| run == **telltale))
        .map(|telltale| telltale.join("_"))
}

/// Lower-case words of a name in snake_case, kebab-case, camelCase or with spaces; digits end a word.
fn split(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for character in name.chars() {
        let starts_word = character.is_uppercase() && was_lower;
        if (starts_word || !character.is_alphabetic()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if character.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
        was_lower = character.is_lowercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_names_are_seen_in_every_spelling_and_others_are_left_alone() {
        for name in
            ["email", "customer_email", "emailAddress", "E-Mail", "Phone 2", "dateOfBirth", "LAST_NAME"]
        {
            assert!(looks_personal(name).is_some(), "{name}");
        }
        for name in ["emails_sent_count_x", "carrier", "name", "phonetic", "tailnum", "streetcar", ""] {
            assert_eq!(looks_personal(name), None, "{name}");
        }
    }
}

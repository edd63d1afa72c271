//! Names of columns that look as if they held something about a person.

/// Words that give a column away by themselves.
const WORDS: &[&str] = &[
    "email",
    "mail",
    "phone",
    "telephone",
    "mobile",
    "fax",
    "ssn",
    "passport",
    "iban",
    "bic",
    "birthday",
    "birthdate",
    "born",
    "dob",
    "surname",
    "firstname",
    "lastname",
    "fullname",
    "address",
    "street",
    "salary",
    "wage",
    "password",
    "secret",
    "token",
    "gender",
    "sex",
    "religion",
    "ethnicity",
    "nationality",
    "ip",
    "username",
    "login",
    "licence",
    "license",
    "taxid",
];

/// Words that do so beside each other.
const PAIRS: &[(&str, &str)] = &[
    ("first", "name"),
    ("last", "name"),
    ("full", "name"),
    ("middle", "name"),
    ("maiden", "name"),
    ("customer", "name"),
    ("user", "name"),
    ("employee", "name"),
    ("patient", "name"),
    ("person", "name"),
    ("contact", "name"),
    ("birth", "date"),
    ("date", "birth"),
    ("of", "birth"),
    ("credit", "card"),
    ("card", "number"),
    ("account", "number"),
    ("bank", "account"),
    ("social", "security"),
    ("tax", "id"),
    ("tax", "number"),
    ("national", "id"),
    ("post", "code"),
    ("postal", "code"),
    ("zip", "code"),
    ("home", "phone"),
    ("ip", "address"),
    ("device", "id"),
    ("medical", "record"),
];

/// Whether the name looks personal: a hint, for a person to judge.
pub fn looks_personal(name: &str) -> bool {
    let words = words(name);
    words.iter().any(|word| WORDS.contains(&word.as_str()))
        || words.windows(2).any(|pair| PAIRS.contains(&(pair[0].as_str(), pair[1].as_str())))
}

/// The words of `snake_case`, `camelCase` and the like, in lower case.
pub fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for character in name.chars() {
        let starts = character.is_uppercase() && was_lower;
        if (!character.is_alphanumeric() || starts) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if character.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
        was_lower = character.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

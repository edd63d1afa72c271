use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use secrecy::SecretSlice;
use serde_json::{Value, json};

use super::*;

const NOW_MS: i64 = 1_800_000_000_250;
const ALL: [SigningAlgorithm; 3] =
    [SigningAlgorithm::Es256, SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa];

/// A key that no service uses: 1024 bits, made for this test.
const RSA_1024_DER: &str = "MIICeAIBADANBgkqhkiG9w0BAQEFAASCAmIwggJeAgEAAoGBAMC6e1vZCFsJB1hv8CvscDfgZKkuL+TXU/uaqEnuI+0qgmLGuaUSfMyGatyzsPGaji42eUNPjCQOXIhhzmFsUbiOzW3ob+LhlMmN363n91Q2Qi1nTvcZAxhuPODFrBAEEalKXO5X+J7iXZSpxLvT66oOuVww+oljacbCOa1fCZ95AgMBAAECgYEAlsmQOFU+x1LyD0xNIWB0kBMdToxXZnjeOU1Qe785FpaausN2feNQBwjn1NM2DmF4+kkeaP50y8T8uqujN+/yotHpunayzlDbuIXXUTtTEP4dm1Ah11HxbtVf87pI0rCBPwgUpNllsMXO5HAVcyjGIP09ffMjcOdzWWfhGvtD3nECQQDqfGP1yiF26+LdQcss7WhWaac8VDOqIbR4YdoMKPf636DIM1u++vZi1PAG6AtJW/UcuMAC+1QhgvvZ3pJQ4HFdAkEA0mlKnGmWrlDDae0UTL+y0nKKlS2fJHIZgBqoVO06gj+ZxiZAu3pGWXYRr8I8tbYyVbV78uBl4HKxgjpZb+S4zQJAGWVjhilgOnsN1RzdHn6QAFvtCvGrrs97tlYSwaJmSTuTNFuroiGYMdgSLw1Ou6FECNpRoYEK+Z4wHMaoXi4Q2QJBALD6xzsQxSER5YwvUafMhkjk9xPLL9Sj9DcANR5Z+6CahmlYu5H1oz6URQQkyJO/EE9vOzZq8MX9MrlrAtdO9vECQQDXY3dQHI0XJYwala0Q0pQZqcfIOuQoyp1ctOhYv6CsNVYTmSb0x7dV/vNyUc3xanvKR+sHGjStMlrmWy2HUdW0";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

fn es256(path: &Path) -> KeyFolder {
    KeyFolder::new(path.to_path_buf(), SigningAlgorithm::Es256)
}

fn load(path: &Path) -> Result<KeySet, KeyError> {
    es256(path).open(NOW_MS)
}

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn pem_of(pair: &Pair) -> String {
    pem::encode(&pair.to_pkcs8().unwrap()).expose_secret().to_owned()
}

fn new_pem() -> String {
    pem_of(&Pair::generate(SigningAlgorithm::Es256).unwrap())
}

fn labelled(label: &str, der: &[u8]) -> String {
    pem::encode(&SecretSlice::from(der.to_vec())).expose_secret().replace("PRIVATE KEY", label)
}

fn environment(private: &str, public: Option<&str>) -> Result<KeySet, KeyError> {
    let unused = es256(Path::new("/nowhere"));
    KeySource::choose(Some(private.into()), public.map(str::to_owned), unused)?.open(NOW_MS)
}

fn kids(set: &KeySet, state: KeyState) -> Vec<String> {
    set.iter().filter(|key| key.state() == state).map(|key| key.kid().to_owned()).collect()
}

fn kid(set: &KeySet, state: KeyState) -> String {
    let found = kids(set, state);
    assert_eq!(found.len(), 1, "{set:?}");
    found[0].clone()
}

fn verifies(set: &KeySet, token: &str) -> bool {
    let header = jsonwebtoken::decode_header(token).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    set.find(&header.kid.unwrap()).is_some_and(|key| key.verifies(message, signature))
}

#[test]
fn the_first_start_makes_private_key_files_and_the_second_reads_them() {
    let root = folder();
    let keys = root.path().join("data/keys");
    let first = load(&keys).unwrap();
    let second = load(&keys).unwrap();
    assert_eq!(first.infos(), second.infos());
    assert_eq!(first.infos()[0].made_at_ms, Some(NOW_MS));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&keys), mode(&keys.join("active.pem"))), (0o700, 0o600));
    assert_eq!(mode(&keys.join("next.pem")), 0o600);
    assert_eq!(std::fs::read_dir(&keys).unwrap().count(), 2, "no temporary file stays");
}

#[test]
fn processes_that_start_together_agree_on_the_keys() {
    let root = folder();
    let keys = root.path().join("keys");
    let kids: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..16).map(|_| scope.spawn(|| load(&keys).unwrap().infos())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(kids.iter().all(|infos| *infos == kids[0]), "{kids:?}");
    assert_eq!(kids[0].len(), 2);
}

#[test]
fn what_each_algorithm_signs_verifies_by_its_jwk_with_another_library_and_back() {
    for algorithm in ALL {
        let root = folder();
        let set = KeyFolder::new(root.path().to_path_buf(), algorithm).open(NOW_MS).unwrap();
        let json = serde_json::to_value(set.jwks()).unwrap();
        let jwk: Jwk = serde_json::from_value(json["keys"][0].clone()).unwrap();
        assert_eq!(jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), set.active().kid(), "{algorithm}");
        let members: Vec<_> = json["keys"][0].as_object().unwrap().keys().cloned().collect();
        let public: &[&str] = match algorithm {
            SigningAlgorithm::Es256 => &["crv", "x", "y"],
            SigningAlgorithm::Rs256 => &["n", "e"],
            SigningAlgorithm::EdDsa => &["crv", "x"],
        };
        let expected: Vec<&str> = [&["kty"], public, &["use", "alg", "kid"]].concat();
        assert_eq!(members, expected, "and above all nothing private");
        assert_eq!(json["keys"][0]["alg"], algorithm.as_str());

        let token = set.active().sign(&json!({"n": 1})).unwrap();
        let mut rules = jsonwebtoken::Validation::new(algorithm.for_verifying());
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let read = jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap();
        assert_eq!(read.claims, json!({"n": 1}));
        assert!(verifies(&set, &token));

        let pem = std::fs::read(root.path().join("active.pem")).unwrap();
        let signing = match algorithm {
            SigningAlgorithm::Es256 => jsonwebtoken::EncodingKey::from_ec_pem(&pem),
            SigningAlgorithm::Rs256 => jsonwebtoken::EncodingKey::from_rsa_pem(&pem),
            SigningAlgorithm::EdDsa => jsonwebtoken::EncodingKey::from_ed_pem(&pem),
        };
        let mut header = jsonwebtoken::Header::new(algorithm.for_verifying());
        header.kid = Some(set.active().kid().to_owned());
        let theirs = jsonwebtoken::encode(&header, &json!({"n": 2}), &signing.unwrap()).unwrap();
        assert!(verifies(&set, &theirs), "{algorithm}");
        let (message, signature) = theirs.rsplit_once('.').unwrap();
        assert!(!set.active().verifies(&message[1..], signature), "{algorithm}");
    }
}

#[test]
fn a_changed_configuration_makes_new_keys_of_its_algorithm_and_leaves_those_that_are_there() {
    let root = folder();
    let before = load(root.path()).unwrap();
    let ed = KeyFolder::new(root.path().to_path_buf(), SigningAlgorithm::EdDsa);
    assert_eq!(ed.open(NOW_MS).unwrap().infos(), before.infos());
    let after = ed.rotate(NOW_MS + PUBLISH_AHEAD_MS, 60, false).unwrap();
    let of = |state| after.iter().find(|key| key.state() == state).unwrap().algorithm();
    assert_eq!(of(KeyState::Active), SigningAlgorithm::Es256, "it was published as next before");
    assert_eq!(of(KeyState::Next), SigningAlgorithm::EdDsa);
}

#[test]
fn the_environments_key_may_have_escaped_line_ends_or_another_form_and_cannot_be_rotated() {
    let pem = new_pem();
    let plain = environment(&pem, None).unwrap();
    let escaped = environment(&pem.replace('\n', "\\n"), None).unwrap();
    assert_eq!(plain.active().kid(), escaped.active().kid());
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let sec1 = labelled("EC PRIVATE KEY", pair.private_key().as_der().unwrap().as_ref());
    let with_parameters =
        format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{sec1}");
    environment(&with_parameters, None).unwrap();

    let source = KeySource::choose(Some(pem.into()), None, es256(Path::new("/nowhere"))).unwrap();
    let error = source.rotate(NOW_MS, 60, true).unwrap_err();
    assert!(error.to_string().contains("restart every replica"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn a_public_key_must_be_the_private_keys_and_does_not_do_alone() {
    for algorithm in ALL {
        let pair = Pair::generate(algorithm).unwrap();
        let public = labelled("PUBLIC KEY", &pair.to_spki().unwrap());
        environment(&pem_of(&pair), Some(&public)).unwrap();
        environment(&pem_of(&pair), Some(&public.replace('\n', "\\n"))).unwrap();
        environment(&pem_of(&pair), Some("  ")).unwrap();
        let other = Pair::generate(SigningAlgorithm::EdDsa).unwrap();
        let other = labelled("PUBLIC KEY", &other.to_spki().unwrap());
        let error = environment(&pem_of(&pair), Some(&other)).unwrap_err();
        assert!(matches!(error, KeyError::NotAPair), "{error}");
        let error = environment(" ", Some(&public)).unwrap_err();
        assert!(error.to_string().contains("set JWT_PRIVATE_KEY"), "{error}");
    }
    for bad in ["x", &new_pem(), "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----"] {
        let error = environment(&new_pem(), Some(bad)).unwrap_err();
        assert!(error.to_string().contains("-pubout"), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn the_public_key_may_be_in_the_older_rsa_form() {
    let pair = Pair::generate(SigningAlgorithm::Rs256).unwrap();
    let public = labelled("RSA PUBLIC KEY", pair.public_bytes());
    environment(&pem_of(&pair), Some(&public)).unwrap();
}

#[test]
fn rotation_moves_each_key_one_state_on_and_tokens_of_every_moment_verify() {
    let root = folder();
    let folder = es256(root.path());
    let s0 = folder.open(NOW_MS).unwrap();
    let before = s0.active().sign(&json!({})).unwrap();
    let now_ms = NOW_MS + PUBLISH_AHEAD_MS;
    let s1 = folder.rotate(now_ms, 3600, false).unwrap();
    assert_eq!(kid(&s1, KeyState::Active), kid(&s0, KeyState::Next));
    assert_eq!(kid(&s1, KeyState::Retired), kid(&s0, KeyState::Active));
    assert!(s0.find(&kid(&s1, KeyState::Next)).is_none(), "the next key is a fresh one");
    let after = s1.active().sign(&json!({})).unwrap();
    assert!(verifies(&s0, &after), "who cached the keys before knows the new active one");
    assert!(verifies(&s1, &before) && verifies(&s1, &after));
    assert_eq!(folder.open(now_ms).unwrap().infos(), s1.infos());

    let retired = s1.find(&kid(&s1, KeyState::Retired)).unwrap().info();
    assert_eq!((retired.made_at_ms, retired.retired_at_ms), (Some(NOW_MS), Some(now_ms)));
    let kept_ms = retired.kept_until_ms.unwrap() - now_ms;
    assert!(kept_ms > 3600 * 1000, "longer than its last token");
    assert!(!folder.prune(now_ms + kept_ms).unwrap());
    assert!(folder.prune(now_ms + kept_ms + 1).unwrap());
    let (s2, _) = folder.read().unwrap();
    assert!(!verifies(&s2, &before) && verifies(&s2, &after));
}

#[test]
fn a_key_that_was_just_published_does_not_sign_unless_forced() {
    let root = folder();
    let folder = es256(root.path());
    let s0 = folder.open(NOW_MS).unwrap();
    let error = folder.rotate(NOW_MS + PUBLISH_AHEAD_MS - 1, 60, false).unwrap_err();
    assert!(matches!(error, KeyError::TooSoon { wait_s: 1 }), "{error}");
    assert_eq!(folder.read().unwrap().0.infos(), s0.infos(), "nothing has changed");
    let s1 = folder.rotate(NOW_MS, 60, true).unwrap();
    assert_eq!(s1.active().kid(), kid(&s0, KeyState::Next));
}

#[test]
fn rotations_at_once_end_in_one_state_that_knows_every_key_that_signed() {
    let root = folder();
    let folder = es256(root.path());
    let first = folder.open(NOW_MS).unwrap().active().kid().to_owned();
    let results: Vec<_> = std::thread::scope(|scope| {
        let tasks: Vec<_> =
            (0..4).map(|_| scope.spawn(|| folder.rotate(NOW_MS + PUBLISH_AHEAD_MS, 60, false))).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    let done = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(done, 1, "the others find a next key that is too young: {results:?}");
    assert_eq!(kid(&folder.read().unwrap().0, KeyState::Retired), first);

    // Forced, each takes its turn; meanwhile every reader finds a complete set with the first key in it.
    let signed: Vec<String> = std::thread::scope(|scope| {
        let tasks: Vec<_> = (0..4)
            .map(|number| {
                let folder = &folder;
                let now_ms = NOW_MS + PUBLISH_AHEAD_MS + number;
                scope.spawn(move || folder.rotate(now_ms, 60, true).unwrap().active().kid().to_owned())
            })
            .collect();
        while tasks.iter().any(|task| !task.is_finished()) {
            let (set, _) = folder.read().unwrap();
            assert!(set.find(&first).is_some());
        }
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    let (last, _) = folder.read().unwrap();
    assert!(signed.iter().all(|kid| last.find(kid).is_some()), "{signed:?} {last:?}");
    assert_eq!((kids(&last, KeyState::Next).len(), kids(&last, KeyState::Retired).len()), (1, 5));
}

#[test]
fn a_rotation_that_was_cut_short_anywhere_leaves_a_complete_set_and_the_next_one_mends_it() {
    let root = folder();
    let folder = es256(root.path());
    let s0 = folder.open(NOW_MS).unwrap();
    // Cut after the copy: the double counts for nothing.
    let active = std::fs::read_to_string(root.path().join("active.pem")).unwrap();
    write(root.path(), "retired-20270115T080000.000Z-20270115T090000.000Z.pem", &active, 0o600);
    let (cut, _) = folder.read().unwrap();
    assert_eq!(kids(&cut, KeyState::Retired), Vec::<String>::new());
    assert_eq!(cut.active().kid(), s0.active().kid());
    // Cut after the rename: there is no next key until somebody opens the folder.
    std::fs::rename(root.path().join("next.pem"), root.path().join("active.pem")).unwrap();
    let (cut, _) = folder.read().unwrap();
    assert_eq!(kid(&cut, KeyState::Retired), s0.active().kid());
    assert_eq!(cut.active().kid(), kid(&s0, KeyState::Next));
    kid(&folder.open(NOW_MS).unwrap(), KeyState::Next);
}

#[test]
fn retired_keys_that_were_put_there_by_hand_stay() {
    let root = folder();
    write(root.path(), "active.pem", &new_pem(), 0o600);
    write(root.path(), "next.pem", &new_pem(), 0o600);
    write(root.path(), "retired-2026.pem", &new_pem(), 0o600);
    write(root.path(), "retired-2026-2027.pem", &new_pem(), 0o600);
    let set = load(root.path()).unwrap();
    assert_eq!(kids(&set, KeyState::Retired).len(), 2);
    assert!(!es256(root.path()).prune(i64::MAX).unwrap());
}

#[test]
fn a_key_file_that_will_not_do_is_refused_with_what_to_do() {
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let p384 = labelled("PRIVATE KEY", p384.to_pkcs8v1().unwrap().as_ref());
    let rsa = format!("-----BEGIN PRIVATE KEY-----\n{RSA_1024_DER}\n-----END PRIVATE KEY-----\n");
    let whole = new_pem();
    let cut = whole.lines().take(2).collect::<Vec<_>>().join("\n") + "\n-----END PRIVATE KEY-----\n";
    for (text, mode, expected) in [
        (whole.as_str(), 0o640, "chmod 600"),
        (whole.as_str(), 0o604, "chmod 600"),
        ("", 0o600, "no PEM block"),
        ("hello", 0o600, "no PEM block"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n", 0o600, "no PEM block"),
        ("-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", 0o600, "no PEM block"),
        (p384.as_str(), 0o600, "curve P-384"),
        (rsa.as_str(), 0o600, "less than 2048 bits"),
        (cut.as_str(), 0o600, "damaged"),
        (&whole.replace("PRIVATE", "PUBLIC"), 0o600, "no private key"),
        (&whole.replace("PRIVATE", "ENCRYPTED PRIVATE"), 0o600, "password-protected"),
    ] {
        let root = folder();
        write(root.path(), "active.pem", text, mode);
        let error = load(root.path()).unwrap_err();
        assert!(error.to_string().contains(expected), "expected {expected}: {error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(whole.lines().nth(1).is_none_or(|secret| !format!("{error:?}").contains(secret)));
    }
    let root = folder();
    std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(load(root.path()).unwrap_err().to_string().contains("chmod 700"));
    let root = folder();
    std::fs::create_dir(root.path().join("active.pem")).unwrap();
    std::fs::set_permissions(root.path().join("active.pem"), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(load(root.path()), Err(KeyError::Read { .. })));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_pem_never_panics(text in "(-----(BEGIN|END) (PUBLIC|PRIVATE|RSA PRIVATE) KEY-----|[A-Za-z0-9+/=\n]{0,40}){0,6}") {
            let _ = environment(&text, Some(&text));
        }
    }
}

//! What stands in deploy/ holds together: policies parse and stay narrow, times fit each other.

use std::fs;
use std::path::Path;

use serde_json::Value;

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).expect(name)
}

/// The statements of a policy, each with its actions.
fn statements(name: &str) -> Vec<(Value, Vec<String>)> {
    let policy: Value = serde_json::from_str(&file(name)).expect(name);
    assert_eq!(policy["Version"], "2012-10-17");
    let statements = policy["Statement"].as_array().expect("a list");
    let actions = |statement: &Value| match &statement["Action"] {
        Value::String(action) => vec![action.clone()],
        Value::Array(actions) => actions.iter().map(|action| action.as_str().expect("a name").to_owned()).collect(),
        other => panic!("{other}"),
    };
    statements.iter().map(|statement| (statement.clone(), actions(statement))).collect()
}

#[test]
fn policies_allow_by_name_and_keys_only_in_our_context() {
    for name in ["iam-policy.json", "kms-key-policy.json"] {
        let mut uses_keys = 0;
        for (statement, actions) in statements(name) {
            assert_eq!(statement["Effect"], "Allow");
            if actions == ["kms:GenerateDataKey", "kms:Decrypt"] {
                uses_keys += 1;
                assert_eq!(statement["Condition"]["StringEquals"]["kms:EncryptionContext:cg"], "1");
                continue;
            }
            // What only some need is held to what they name.
            if actions == ["kms:DescribeKey"] {
                assert!(statement["Condition"]["StringEquals"]["kms:RequestAlias"].is_string(), "{statement}");
            }
            if actions == ["sts:AssumeRole"] {
                assert!(statement["Resource"].as_str().is_some_and(|role| !role.contains('*')), "{statement}");
            }
            // Reading about a key may be allowed by its first word: nothing that uses one begins like that.
            let harmless = ["kms:Describe*", "kms:Get*", "kms:List*"];
            for action in &actions {
                assert!(!action.contains('*') || harmless.contains(&action.as_str()), "{action}");
                assert!(!["Crypt", "crypt", "DataKey", "Grant"].iter().any(|use_of| action.contains(use_of)), "{action}");
            }
        }
        assert_eq!(uses_keys, 1, "{name}");
    }
}

#[test]
fn whoever_stops_the_gateway_waits_longer_than_transfers_may_take() {
    let number = |name: &str, before: &str| -> u64 {
        let text = file(name);
        let rest = text.split_once(before).unwrap_or_else(|| panic!("{before} in {name}")).1;
        rest.split(|c: char| !c.is_ascii_digit()).next().expect("a first piece").parse().expect(before)
    };
    let transfers = number("ciphergate.example.toml", "\n#shutdown_timeout_secs = ");
    for (name, before) in [
        ("ciphergate.service", "\nTimeoutStopSec="),
        ("README.md", "--stop-timeout "),
        ("README.md", "terminationGracePeriodSeconds: "),
    ] {
        assert!(number(name, before) > transfers, "{before}");
    }
}

#[test]
fn the_image_has_no_root_and_only_named_files() {
    let dockerfile = file("Dockerfile");
    for line in ["\nUSER 65532:65532\n", "\nSTOPSIGNAL SIGTERM\n", "\"healthcheck\"]\n", "\nEXPOSE 9000 9090\n", " --locked "] {
        assert!(dockerfile.contains(line), "{line}");
    }
    // The context is an allow-list: no secret of the builder's folder gets in by chance.
    assert_eq!(file("Dockerfile.dockerignore").lines().find(|line| !line.starts_with('#')), Some("**"));
}

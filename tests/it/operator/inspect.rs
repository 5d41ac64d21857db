use super::{TwoKeys, put, put_parts, snapshot};
use crate::kit::noise;

#[tokio::test(flavor = "multi_thread")]
async fn inspect_says_what_an_object_is_without_its_key_and_with_it() {
    let two = TwoKeys::start().await;
    let (client, behind) = (two.site.client(), two.site.behind());
    let bucket = two.site.bucket("inspected").await;
    let plain = noise(100_000, 1);
    let sum = data_encoding::BASE64.encode(&<sha2::Sha256 as sha2::Digest>::digest(&plain));
    let single = client.put_object().bucket(&bucket).key("single").checksum_sha256(sum).body(plain.into());
    single.send().await.expect("put");
    put_parts(&client, &bucket, "parts", &noise(6 << 20, 2)).await;
    put(&behind, &bucket, "plain", b"hello").await;
    behind.put_object().bucket(&bucket).key("bad\nname").metadata("ciphergate", "AAAA").send().await.expect("put");

    for (key, name) in [("single", "single"), ("parts", "parts")] {
        let target = format!("s3://{bucket}/{key}");
        for (args, ending) in
            [(&[][..], "txt"), (&["--json"], "json"), (&["--unlock"], "unlocked.txt"), (&["--unlock", "--json"], "unlocked.json")]
        {
            let told = two.run(&[&["inspect", &target][..], args].concat()).await;
            assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{told:?}");
            snapshot(&format!("inspect-{name}.{ending}"), &told.out);
        }
    }
    let told = two.run(&["inspect", "s3://inspected/plain"]).await;
    assert_eq!(told.code, Some(3), "{told:?}");
    snapshot("inspect-plain.txt", &told.out);
    let told = two.run(&["inspect", "s3://inspected/bad\nname"]).await;
    assert_eq!(told.code, Some(3), "{told:?}");
    snapshot("inspect-malformed.txt", &told.out);

    let told = two.run(&["inspect", "s3://inspected/nothing"]).await;
    assert!(told.code == Some(1) && told.err.contains("NoSuchKey"), "{told:?}");
    for wrong in ["s3://inspected", "inspected/single", "s3://inspected/.ciphergate/x"] {
        let told = two.run(&["inspect", wrong]).await;
        assert_eq!(told.code, Some(2), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_of_the_operator_commands() {
    let two = TwoKeys::start().await;
    for command in ["inspect", "verify", "rewrap", "recover", "encrypt", "reencrypt", "decrypt"] {
        let told = super::run(two.launch().command(command), &["--help"]).await;
        assert_eq!(told.code, Some(0));
        snapshot(&format!("help-{command}.txt"), &told.out);
    }
}

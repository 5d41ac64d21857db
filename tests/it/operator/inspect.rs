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

    // A file needs its envelope, and nothing else.
    let stored = behind.get_object().bucket(&bucket).key("parts").send().await.expect("get");
    let envelope = stored.metadata().expect("metadata")["ciphergate"].clone();
    let (file, kept) = (two.path("body"), two.path("envelope"));
    std::fs::write(&file, stored.body.collect().await.expect("whole").into_bytes()).expect("written");
    std::fs::write(&kept, format!("{envelope}\n")).expect("written");
    let inspect = async |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ciphergate"));
        command.current_dir(two.folder.path()).args(["inspect", "--file", "body"]);
        super::run(command, args).await
    };
    for args in [["--envelope", &envelope], ["--envelope", "@envelope"]] {
        let told = inspect(&args).await;
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{told:?}");
        snapshot("inspect-file.txt", &told.out);
    }
    snapshot("inspect-file.json", &inspect(&["--envelope", "@envelope", "--json"]).await.out);
    let name = ciphergate::format::VersionName { bucket: bucket.clone(), key: "parts".to_owned(), version_id: "1".to_owned() };
    let envelope = ciphergate::format::Envelope::parse(&envelope).expect("an envelope");
    let record = ciphergate::format::RewrapRecord { name, envelope }.to_bytes().expect("a record");
    std::fs::write(&kept, record).expect("written");
    snapshot("inspect-file.txt", &inspect(&["--envelope", "@envelope"]).await.out);
    let whole = std::fs::read(&file).expect("read");
    std::fs::write(&file, &whole[..whole.len() - 1]).expect("written");
    assert_eq!(inspect(&["--envelope", "@envelope"]).await.code, Some(3));
    std::fs::write(&file, vec![0; whole.len()]).expect("written");
    assert_eq!(inspect(&["--envelope", "@envelope"]).await.code, Some(3));
    for wrong in [&[][..], &["--envelope", "@nowhere"], &["--envelope", "x", "--unlock"], &["--envelope", "x", "s3://b/k"]] {
        assert_eq!(inspect(wrong).await.code, Some(2));
    }

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

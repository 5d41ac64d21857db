//! From one key of the key service to another.

use crate::kit::{self, CLIENT, Launch, Site, noise};
use crate::operator::{get, label, put, run};

#[tokio::test(flavor = "multi_thread")]
async fn rewrap_moves_objects_from_one_kms_key_to_another_and_the_first_can_go() {
    let kms = super::Kms::localstack();
    let (first, second) = (kms.new_key().await, kms.new_key().await);
    let first = kit::Kms { endpoint: kms.endpoint.clone(), arn: first };
    let more = format!("[[keys]]\nlabel = \"second\"\nkind = \"kms\"\nkey_arn = \"{second}\"\nendpoint = \"{}\"\n", kms.endpoint);
    let site = Site::launch(|launch| launch.kms(first.clone()).more(&more)).await;
    let (client, behind, bucket) = (site.client(), site.behind(), site.bucket("kms-rotated").await);
    for number in 0..12 {
        put(&client, &bucket, &format!("k{number}"), &noise(5000, number)).await;
    }
    let launch = || {
        let launch = Launch::new(site.folder.path(), site.store_addr).kms(first.clone()).more(&more);
        launch.set("CIPHERGATE_ENCRYPTION__MODE", "shared").set("CIPHERGATE_ENCRYPTION__KEY", "second")
    };
    let told = run(launch().command("rewrap"), &["s3://kms-rotated", "--apply", "--json"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let document = told.json();
    assert_eq!((&document["moved"], &document["keys"]["local"]["needed"]), (&12.into(), &false.into()), "{document}");
    // One call for each object that had a key of its own, and one for all of them together.
    let calls = &document["key_calls"];
    assert_eq!((&calls["unwrap"], &calls["generate"], &calls["failed"]), (&12.into(), &1.into(), &0.into()), "{document}");

    kms.client.disable_key().key_id(&first.arn).send().await.expect("the key is disabled");
    let gateway = launch().start();
    for number in 0..12 {
        let key = format!("k{number}");
        assert_eq!(label(&behind, &bucket, &key).await, "second");
        assert_eq!(get(&kit::client(gateway.s3, CLIENT), &bucket, &key).await, noise(5000, number));
    }
    let told = run(launch().command("verify"), &["s3://kms-rotated", "--json"]).await;
    assert_eq!((told.code, &told.json()["good"]), (Some(0), &12.into()), "{told:?}");

    // What is still under a key that is switched off is unreadable, not damaged, and cannot be moved.
    kms.client.disable_key().key_id(&second).send().await.expect("the key is disabled");
    let told = run(launch().command("verify"), &["s3://kms-rotated", "--json"]).await;
    let document = told.json();
    assert_eq!((told.code, &document["unreadable"], &document["damaged"]), (Some(3), &12.into(), &0.into()), "{document}");
}

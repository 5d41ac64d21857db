//! docs/TRANSIT.md, block by block, against a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::server::{Bao, program};
use crate::kit::{Site, wait_until};

/// The blocks of a language in the section that sets everything up.
fn blocks(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TRANSIT.md");
    let page = fs::read_to_string(page).expect("the page");
    let section = page.split("\n## ").find(|section| section.starts_with("Setting it up")).expect("the section");
    let fence = format!("```{language}\n");
    section.split(&fence).skip(1).map(|rest| rest.split_once("```").expect("an end").0.to_owned()).collect()
}

/// Stops with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_page_sets_up_a_gateway_with_an_agent() {
    let bao = Bao::start().await;
    bao.run(&["secrets", "disable", "transit"]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let shell = blocks("sh");
    assert_eq!(shell.len(), 2);
    let path = format!("{}:{}", program().parent().expect("a folder").display(), std::env::var("PATH").expect("PATH"));
    for block in &shell {
        let mut bash = Command::new("bash");
        bash.args(["-euc", block]).current_dir(folder.path()).envs(bao.environment()).env("PATH", &path).stdin(Stdio::null());
        let ended = bash.output().expect("bash runs");
        assert!(ended.status.success(), "{block}\n{}", String::from_utf8_lossy(&ended.stderr));
    }

    fs::write(folder.path().join("agent.hcl"), blocks("hcl").concat()).expect("the agent's configuration");
    let log = fs::File::create(folder.path().join("agent.log")).expect("log file");
    let mut agent = Command::new(program());
    // It has no token but the one that it gets.
    agent.args(["agent", "-config=agent.hcl"]).current_dir(folder.path()).envs(bao.environment()).env_remove("BAO_TOKEN");
    let _agent = Agent(agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the agent starts"));
    let token_file = folder.path().join("bao.token");
    wait_until(Duration::from_secs(30), || fs::metadata(&token_file).is_ok_and(|file| file.len() > 0)).await;
    assert_eq!(fs::metadata(&token_file).expect("the token").permissions().mode() & 0o777, 0o600);

    let toml = blocks("toml").concat();
    let toml: Vec<&str> = toml.lines().filter(|line| !line.starts_with("[[") && !line.starts_with("label")).collect();
    let toml = toml.join("\n").replace("https://bao.example.com:8200", &bao.address());
    let toml = toml.replace("\"bao.token\"", &format!("\"{}\"", token_file.display()));
    let site = Site::launch(|launch| launch.key(&toml)).await;
    site.gateway.wait_ready().await;
    let (client, bucket) = (site.client(), site.bucket("bao").await);
    client.put_object().bucket(&bucket).key("k").body(b"plain".to_vec().into()).send().await.expect("stored");
    let got = client.get_object().bucket(&bucket).key("k").send().await.expect("there").body.collect().await.expect("whole");
    assert_eq!(got.into_bytes(), b"plain".as_slice());
}

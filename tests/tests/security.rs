//! TLS and tokens: who gets access, and what the others are told.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use edgesmith_tests::{Coordinator, Process, Ran, TinyStudy, command, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

#[test]
fn a_study_runs_over_tls_with_a_token_and_others_are_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path());
    // The directory also has an authority of its own, which this coordinator does not use.
    let own = ["--data-dir", "edgesmith-data"];
    std::fs::create_dir(directory.path().join(own[1])).unwrap();
    run(directory.path(), &[&["token", "new", "--role", "viewer"], &own[..]].concat()).ok();
    let coordinator = Coordinator::with_options(
        directory.path(),
        &["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--token", "sesame"],
    );
    let keys = ["--tls-ca", "ca.pem", "--token", "sesame"];
    let ask = |args: &[&str], keys: &[&str]| coordinator.ask(&[args, keys].concat());

    // This machine does not trust the test's certificate authority.
    ask(&["studies"], &["--token", "sesame"])
        .fails(1, &["failed to connect to the coordinator at", "certificate"]);
    ask(&["studies"], &["--tls-ca", "ca.pem"]).fails(1, &["token"]);
    ask(&["studies"], &["--tls-ca", "ca.pem", "--token", "mellon"]).fails(1, &["token"]);
    ask(&["studies"], &["--tls-ca", "absent.pem"]).fails(2, &["absent.pem"]);
    // In the coordinator's own directory no token is needed.
    let here = [&["studies"], &own[..]].concat();
    run(directory.path(), &here).fails(1, &["failed to connect to the coordinator at"]);
    run(directory.path(), &[&here[..], &["--tls-ca", "ca.pem"]].concat()).ok();
    let plain = coordinator.url.replace("https", "http");
    let args = ["studies", "--coordinator", &plain, "--tls-ca", "ca.pem"];
    run(directory.path(), &args).fails(2, &["https://"]);
    let args = ["studies", "--coordinator", &plain, "--token", "sesame"];
    run(directory.path(), &args).fails(1, &["uses TLS", "https://"]);

    let study = TinyStudy { trials: 2, ..TinyStudy::new("behind-tls") };
    let file = study.write(directory.path());
    let _worker = coordinator.worker(&keys);
    let front = ask(&["submit", file.to_str().unwrap(), "--wait"], &keys).ok();
    assert!(front.contains("Pareto front"), "{front}");
}

#[test]
fn the_first_start_beyond_the_machine_makes_tokens_that_carry_what_clients_must_trust() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut starting = command(directory, &["coordinator", "--listen", "0.0.0.0:0"]);
    let mut child = starting.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let _coordinator = Process::from(child);
    let lines: Vec<String> = output.lines().take(6).map(Result::unwrap).collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let url = words(&lines[0]).into_iter().find(|word| word.starts_with("https://")).unwrap();
    let (_, port) = url.rsplit_once(':').unwrap();
    let mut tokens = lines.iter().flat_map(|line| words(line)).filter(|w| w.starts_with("es1."));
    let (worker, admin) = (tokens.next().unwrap(), tokens.next().unwrap());
    let url = format!("https://127.0.0.1:{port}");

    let study = TinyStudy { trials: 1, ..TinyStudy::new("far") };
    let file = study.write(directory);
    let file = file.to_str().unwrap();
    std::fs::write(directory.join("worker-token"), format!("{worker}\n")).unwrap();
    let at = ["--coordinator", &url];
    let args = [&["worker", "--token-file", "worker-token"], &at[..]].concat();
    let _worker = Process::start(command(directory, &args));
    let ask =
        |args: &[&str], token: &str| run(directory, &[args, &at, &["--token", token]].concat());
    ask(&["submit", file, "--wait"], &admin).ok();

    // What others are told.
    run(directory, &[&["studies"], &at[..]].concat()).fails(1, &["certificate", "--tls-ca"]);
    ask(&["studies"], &worker)
        .fails(1, &["role worker", "list studies", "viewer or user or admin"]);
    let (_, secret) = admin.rsplit_once('.').unwrap();
    let other = format!("es1.{}.{secret}", "0".repeat(64));
    ask(&["studies"], &other).fails(1, &["not that one", "check the address"]);
    ask(&["studies"], "").fails(2, &["the token is empty"]);
    let plain = format!("http://127.0.0.1:{port}");
    let args = ["studies", "--coordinator", &plain, "--token", &admin];
    run(directory, &args).fails(1, &["uses TLS", "https://"]);

    // In its own directory, no token is needed.
    let here = ["--data-dir", "edgesmith-data"];
    let tokens = |args: &[&str]| run(directory, &[&["token"], args, &here[..]].concat());
    let viewer = tokens(&["new", "--role", "viewer", "--name", "screen"]).ok();
    ask(&["studies"], viewer.trim()).ok();
    ask(&["submit", file], viewer.trim()).fails(1, &["role viewer may not submit studies"]);
    let listed = tokens(&["list"]).ok();
    assert!(listed.contains("screen") && !listed.contains("es1."), "{listed}");
    tokens(&["revoke", "screen"]).ok();
    ask(&["studies"], viewer.trim()).fails(1, &["wrong or was revoked"]);
}

#[test]
fn tokens_of_a_stopped_directory_are_required_after_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let coordinator = Coordinator::with_options(directory.path(), &[]);
    coordinator.ask(&["studies"]).ok();
    let tls = coordinator.url.replace("http", "https");
    let args = ["studies", "--coordinator", &tls, "--token", "any"];
    run(directory.path(), &args).fails(1, &["without TLS", "http://"]);
    drop(coordinator);
    let args = ["token", "new", "--role", "user", "--data-dir", "edgesmith-data"];
    let token = run(directory.path(), &args).ok();
    let coordinator = Coordinator::with_options(directory.path(), &[]);
    coordinator.ask(&["studies"]).fails(1, &["requires a token"]);
    coordinator.ask(&["studies", "--token", token.trim()]).ok();
}

#[test]
fn a_token_in_the_environment_is_announced_and_never_stands_before_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut starting = command(directory, &["coordinator", "--listen", "127.0.0.1:0"]);
    starting.env("EDGESMITH_TOKEN", "a long text that nobody knows".replace(' ', "-"));
    let mut child = starting.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let _coordinator = Process::from(child);
    let lines: Vec<String> = output.lines().take(2).map(Result::unwrap).collect();
    assert!(lines[0].contains(" without TLS, asks for tokens, "), "{lines:?}");
    assert_eq!(lines[1], "anyone with the token in EDGESMITH_TOKEN is an admin here");
    let url = lines[0].split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let studies = |token: &str, options: &[&str]| {
        let mut asking = command(directory, &[&["studies"], options].concat());
        Ran(asking.env("EDGESMITH_TOKEN", token).output().unwrap())
    };
    for useless in ["", "wrong", "es1.broken"] {
        studies(useless, &["--data-dir", "edgesmith-data"]).ok();
    }
    studies("wrong", &["--coordinator", url]).fails(1, &["wrong or was revoked"]);
    studies("", &["--coordinator", url]).fails(2, &["EDGESMITH_TOKEN: the token is empty"]);

    // Wrong tokens from this address do not lock out right ones from it.
    for _ in 0..25 {
        studies("wrong", &["--coordinator", url]).fails(1, &["wrong or was revoked"]);
    }
    studies("a-long-text-that-nobody-knows", &["--coordinator", url]).ok();
}

#[test]
fn an_authoritys_own_certificate_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    for (name, pem) in [("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(directory.path().join(name), pem).unwrap();
    }
    let tls = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let args = [&["coordinator", "--listen", "127.0.0.1:0"], &tls[..]].concat();
    run(directory.path(), &args).fails(1, &["cert.pem is unusable", "CA:FALSE"]);
}

/// Writes the certificate of an authority, and a certificate for 127.0.0.1 signed by it, with its
/// key.
fn certify(directory: &Path) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    for (name, pem) in
        [("ca.pem", authority.pem()), ("cert.pem", server.pem()), ("key.pem", key.serialize_pem())]
    {
        std::fs::write(directory.join(name), pem).unwrap();
    }
}

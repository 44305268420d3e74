//! TLS and the bearer token: only clients with both get access.

use std::path::Path;

use edgesmith_tests::{Coordinator, TinyStudy};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

#[test]
fn a_study_runs_over_tls_with_a_token_and_others_are_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path());
    let coordinator = Coordinator::with_options(
        directory.path(),
        &["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--token", "sesame"],
    );
    let keys = ["--tls-ca", "ca.pem", "--token", "sesame"];
    let ask = |args: &[&str], keys: &[&str]| coordinator.ask(&[args, keys].concat());

    // This machine does not trust the test's certificate authority.
    ask(&["studies"], &["--token", "sesame"]).fails(1, &["no coordinator answers", "certificate"]);
    ask(&["studies"], &["--tls-ca", "ca.pem"]).fails(1, &["token"]);
    ask(&["studies"], &["--tls-ca", "ca.pem", "--token", "mellon"]).fails(1, &["token"]);
    ask(&["studies"], &["--tls-ca", "absent.pem"]).fails(2, &["absent.pem"]);
    let plain = coordinator.url.replace("https", "http");
    let args = ["studies", "--coordinator", &plain, "--tls-ca", "ca.pem"];
    edgesmith_tests::run(directory.path(), &args).fails(2, &["https://"]);

    let study = TinyStudy { trials: 2, ..TinyStudy::new("behind-tls") };
    let file = study.write(directory.path());
    let _worker = coordinator.worker(&keys);
    let front = ask(&["submit", file.to_str().unwrap(), "--wait"], &keys).ok();
    assert!(front.contains("Pareto front"), "{front}");
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

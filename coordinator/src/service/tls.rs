//! Certificates of the coordinator. Either its own authority signs one, or the user gives one in
//! files, which are read again when they change.
//!
//! The authority is made once and kept in the data directory. Clients know it by its fingerprint,
//! which is in their tokens. The certificate that it signs is made anew at every start.

use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use edgesmith_common::{COORDINATOR_NAME, Fingerprint};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use tokio_rustls::rustls;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::store::{
    AUTHORITY_FILE as AUTHORITY, AUTHORITY_KEY_FILE as AUTHORITY_KEY, AccessError, AccessFiles,
};

/// Least time between two looks at the certificate's files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// Largest file that is read as a certificate or key.
const LARGEST_FILE: u64 = 1 << 20;

/// Where the server's certificate comes from.
#[derive(Debug, Clone)]
pub enum Tls {
    /// The directory's own authority signs it.
    Own,
    /// From files in PEM.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("failed to read {path}: {source}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file does not have what it should.
    #[error("{path} is unusable: {problem}")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The directory's authority cannot be kept.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A certificate could not be made.
    #[error("failed to make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The TLS library refuses it.
    #[error("the certificate is unusable: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A certificate authority for one coordinator.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    /// The directory's authority. It is made at the first call.
    ///
    /// # Errors
    /// If it cannot be read or stored.
    pub fn load_or_make(files: &AccessFiles) -> Result<Self, TlsError> {
        if let Some(authority) = Self::existing(files)? {
            return Ok(authority);
        }
        let key = KeyPair::generate()?;
        let certificate = authority_params().self_signed(&key)?;
        // The key first: an authority without its key counts as absent.
        files.write(AUTHORITY_KEY, key.serialize_pem().as_bytes())?;
        files.write(AUTHORITY, certificate.pem().as_bytes())?;
        Ok(Self { certificate: certificate.der().clone(), key })
    }

    /// The directory's authority; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn existing(files: &AccessFiles) -> Result<Option<Self>, AccessError> {
        let damaged = |name: &str, error: &dyn std::fmt::Display| {
            files.damaged(
                name,
                format!(
                    "{error}; remove {AUTHORITY} and {AUTHORITY_KEY} there, each with its \
                     checksum, for a new authority, and then make new tokens"
                ),
            )
        };
        let (Some(certificate), Some(key)) = (files.read(AUTHORITY)?, files.read(AUTHORITY_KEY)?)
        else {
            return Ok(None);
        };
        let certificate = CertificateDer::from_pem_slice(&certificate)
            .map_err(|e| damaged(AUTHORITY, &of_pem(&e)))?;
        let key = KeyPair::from_pem(&String::from_utf8_lossy(&key))
            .map_err(|e| damaged(AUTHORITY_KEY, &e))?;
        Ok(Some(Self { certificate, key }))
    }

    /// What is wrong with the contents of its files, if their bytes are whole.
    pub fn problem(files: &AccessFiles) -> Option<AccessError> {
        let whole = |name| files.read(name).is_ok();
        if whole(AUTHORITY) && whole(AUTHORITY_KEY) { Self::existing(files).err() } else { None }
    }

    /// The fingerprint of the directory's authority; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn existing_fingerprint(files: &AccessFiles) -> Result<Option<Fingerprint>, AccessError> {
        let Some(pem) = files.read(AUTHORITY)? else { return Ok(None) };
        let certificate = CertificateDer::from_pem_slice(&pem);
        let certificate = certificate.map_err(|e| files.damaged(AUTHORITY, of_pem(&e)))?;
        Ok(Some(fingerprint(&certificate)))
    }

    /// By which clients know it.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.certificate)
    }

    /// A server configuration with a new certificate for `names`, which are host names and
    /// addresses.
    fn certify(&self, names: Vec<String>) -> Result<ServerConfig, TlsError> {
        let usable = |name: &String| ServerName::try_from(name.as_str()).is_ok();
        let mut params =
            CertificateParams::new(names.into_iter().filter(usable).collect::<Vec<_>>())?;
        params.distinguished_name = named("edgesmith coordinator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        always(&mut params);
        let key = KeyPair::generate()?;
        // The parameters of the authority are the same at every start.
        let issuer = Issuer::new(authority_params(), &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(config()?.with_single_cert(chain, key).map(with_http2)?)
    }
}

/// SHA-256 of a certificate.
fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    Fingerprint(bytes)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("edgesmith authority of one coordinator");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    always(&mut params);
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Makes a certificate valid at any time. Boards often have no clock of their own and begin in
/// 1970. Nothing is won by an end: whoever has the token trusts this authority and no other.
fn always(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(1970, 1, 1);
    params.not_after = rcgen::date_time_ymd(9999, 12, 31);
}

/// The server's TLS settings.
///
/// # Errors
/// If there is no usable certificate.
pub fn server_config(
    tls: &Tls,
    files: &AccessFiles,
    listen: SocketAddr,
) -> Result<Arc<ServerConfig>, TlsError> {
    let config = match tls {
        Tls::Own => Authority::load_or_make(files)?.certify(names(listen))?,
        Tls::Files { certificate, key } => {
            let resolver = Reloading::new(certificate.clone(), key.clone())?;
            with_http2(config()?.with_cert_resolver(Arc::new(resolver)))
        }
    };
    Ok(Arc::new(config))
}

fn config()
-> Result<rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    Ok(builder.with_safe_default_protocol_versions()?.with_no_client_auth())
}

fn with_http2(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// The names and addresses by which clients may reach this machine, as far as it knows them.
/// Clients with a fingerprint ask for [`COORDINATOR_NAME`] instead, so that they may use any name.
fn names(listen: SocketAddr) -> Vec<String> {
    let mut names = vec![COORDINATOR_NAME.to_owned(), "localhost".to_owned()];
    names.extend(host_name());
    // Connecting a UDP socket sends nothing, but tells which address of this machine would be used.
    let own = |bind: &str, far: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(far).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let addresses = [
        Some(IpAddr::from([127, 0, 0, 1])),
        Some(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16])),
        own("0.0.0.0:0", "192.0.2.1:9"),
        own("[::]:0", "[2001:db8::1]:9"),
        Some(listen.ip()),
    ];
    let addresses = addresses.into_iter().flatten().filter(|address| !address.is_unspecified());
    for address in addresses.map(|address| address.to_string()) {
        if !names.contains(&address) {
            names.push(address);
        }
    }
    names
}

/// The machine's own name.
pub fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

/// A certificate in files. It is read again when they change, so that a renewed one is used without
/// a restart.
#[derive(Debug)]
struct Reloading {
    certificate: PathBuf,
    key: PathBuf,
    state: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    checked: Instant,
    stamps: [Stamp; 2],
    current: Arc<CertifiedKey>,
}

/// When a file was changed, and its length; `None` if it cannot be seen.
type Stamp = Option<(SystemTime, u64)>;

impl Reloading {
    fn new(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        // Looked at before reading, so that a change in between is noticed later.
        let stamps = [stamp(&certificate), stamp(&key)];
        let current = Arc::new(read_pair(&certificate, &key)?);
        let state = Mutex::new(Loaded { checked: Instant::now(), stamps, current });
        Ok(Self { certificate, key, state })
    }

    /// The certificate to use at `now`.
    fn current(&self, now: Instant) -> Arc<CertifiedKey> {
        // A poisoned one is safe to use: its parts do not depend on each other.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.checked) >= RELOAD_INTERVAL {
            state.checked = now;
            let stamps = [stamp(&self.certificate), stamp(&self.key)];
            if stamps != state.stamps {
                state.stamps = stamps;
                match read_pair(&self.certificate, &self.key) {
                    Ok(renewed) => {
                        tracing::info!("read the certificate in {}", self.certificate.display());
                        state.current = Arc::new(renewed);
                    }
                    // Perhaps only one of the two files is written so far.
                    Err(error) => tracing::warn!("keeping the earlier certificate: {error}"),
                }
            }
        }
        Arc::clone(&state.current)
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current(Instant::now()))
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let unusable = |path: &Path, problem: String| TlsError::File { path: path.to_owned(), problem };
    let pem = read(certificate)?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(certificate, of_pem(&error)))?;
    let Some(own) = chain.first() else {
        return Err(unusable(certificate, "it has no certificate in PEM format".to_owned()));
    };
    let provider: CryptoProvider = ring::default_provider();
    check(own, &provider).map_err(|problem| unusable(certificate, problem.to_owned()))?;
    let pem = read(key)?;
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        let encrypted = String::from_utf8_lossy(&pem).contains("ENCRYPTED");
        unusable(key, match error {
            pem::Error::NoItemsFound if encrypted => {
                "the private key in it is encrypted; write it to a file without a passphrase, for \
                 example with `openssl pkey -in FILE -out NEW`"
                    .to_owned()
            }
            pem::Error::NoItemsFound => "it has no private key in PEM format".to_owned(),
            error => of_pem(&error),
        })
    })?;
    CertifiedKey::from_der(chain, secret, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            unusable(key, format!("it is not the key of {}", certificate.display()))
        }
        _ => unusable(
            key,
            "the private key in it is broken or of a kind that cannot be used; use ECDSA with \
             P-256 or P-384, Ed25519, or RSA with 2048 bits or more"
                .to_owned(),
        ),
    })
}

/// Checks what clients will check of a server's certificate, except who signed it and for which
/// name.
fn check(certificate: &CertificateDer<'_>, provider: &CryptoProvider) -> Result<(), &'static str> {
    let broken = "its first certificate cannot be read; copy the file again";
    let parsed = ParsedCertificate::try_from(certificate).map_err(|_| broken)?;
    let algorithms = provider.signature_verification_algorithms.all;
    // Without an authority, nothing is left to find fault with but that nobody has signed it.
    let nobody = RootCertStore::empty();
    let now = UnixTime::now();
    let verified =
        verify_server_cert_signed_by_trust_anchor(&parsed, &nobody, &[], now, algorithms);
    let Err(rustls::Error::InvalidCertificate(fault)) = verified else { return Ok(()) };
    use rustls::CertificateError as C;
    match fault {
        C::Expired | C::ExpiredContext { .. } => Err("its first certificate has expired, or this \
             machine's clock is wrong; renew the certificate or set the clock"),
        C::NotValidYet | C::NotValidYetContext { .. } => {
            // The clocks of clients count, and a board without a clock of its own begins in 1970.
            tracing::warn!("the certificate is not valid yet, or this machine's clock is wrong");
            Ok(())
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => Err("its first certificate is not \
             for servers; make one with the extended key usage serverAuth, or with none"),
        C::BadEncoding => Err(broken),
        // The library's name for a certificate that may sign others and is used as a server's own.
        C::Other(other) if other.0.to_string().contains("CaUsedAsEndEntity") => Err("its first \
             certificate is an authority's own (CA:TRUE), and clients refuse that; the server's own \
             certificate goes first, and `openssl req -x509` makes one with -addext \
             basicConstraints=critical,CA:FALSE"),
        C::Other(other) if other.0.to_string().contains("UnsupportedCertVersion") => Err("its \
             first certificate is of X.509 version 1; make one of version 3, which names the server \
             as a subjectAltName"),
        // Above all, that nobody has signed it. What else there may be is for clients to judge.
        _ => Ok(()),
    }
}

/// What is wrong with a text in PEM, for people. The library shows bytes as numbers.
fn of_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "a part of it has no END line; copy the file again".to_owned()
        }
        pem::Error::IllegalSectionStart { .. } => {
            "a BEGIN line in it is broken; copy the file again".to_owned()
        }
        pem::Error::Base64Decode(_) => {
            "a part of it is not in base 64; copy the file again".to_owned()
        }
        pem::Error::NoItemsFound => "it has nothing in PEM format".to_owned(),
        pem::Error::SectionTooLarge => "a part of it is too long; is it the right file?".to_owned(),
        // The variants above have no plain text of their own; others may come.
        error => error.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        let files = AccessFiles::new(dir.path());
        assert_eq!(Authority::existing_fingerprint(&files).unwrap(), None);
        let made = Authority::load_or_make(&files).unwrap().fingerprint();
        let loaded = Authority::load_or_make(&files).unwrap();
        assert_eq!(loaded.fingerprint(), made);
        assert_eq!(Authority::existing_fingerprint(&files).unwrap(), Some(made));
        // Names that no certificate can have are left out.
        loaded.certify(vec!["edgesmith".to_owned(), "no name".to_owned()]).unwrap();
    }

    #[test]
    fn a_changed_certificate_is_read_again_and_a_broken_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let write = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            fs::write(&certificate, made.cert.pem()).unwrap();
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            made.cert.der().clone()
        };
        let first = write("a.example");
        let reloading = Reloading::new(certificate.clone(), key.clone()).unwrap();
        let used = |seconds: u64| {
            let later = Instant::now() + Duration::from_secs(seconds);
            reloading.current(later).cert[0].clone()
        };
        let second = write("longer-name.example");
        assert_eq!(used(0), first, "looked at too often");
        assert_eq!(used(10), second);
        fs::write(&certificate, "half").unwrap();
        assert_eq!(used(20), second);
        let third = write("the-longest-name-of-all.example");
        assert_eq!(used(30), third);
    }

    #[test]
    fn unusable_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let refused = || Reloading::new(certificate.clone(), key.clone()).unwrap_err().to_string();
        assert!(refused().contains("cert.pem"), "{}", refused());
        fs::write(&certificate, "nothing").unwrap();
        assert!(refused().contains("no certificate in PEM"), "{}", refused());
        let one = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        fs::write(&certificate, one.cert.pem()).unwrap();
        fs::write(&key, "nothing").unwrap();
        assert!(refused().contains("no private key"), "{}", refused());
        fs::write(&key, other.signing_key.serialize_pem()).unwrap();
        assert!(refused().contains("not the key of"), "{}", refused());
        fs::write(
            &key,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(refused().contains("without a passphrase"), "{}", refused());
        let whole = one.cert.pem();
        fs::write(&certificate, &whole[..whole.len() - 40]).unwrap();
        assert!(refused().contains("no END line"), "{}", refused());
        fs::write(&certificate, whole.replace("MII", "M*I")).unwrap();
        assert!(refused().contains("base 64"), "{}", refused());
    }

    #[test]
    fn certificates_that_no_client_would_take_are_refused_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let pair = KeyPair::generate().unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        let start = |change: &dyn Fn(&mut CertificateParams)| {
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            change(&mut params);
            fs::write(&certificate, params.self_signed(&pair).unwrap().pem()).unwrap();
            Reloading::new(certificate.clone(), key.clone()).map(drop).map_err(|e| e.to_string())
        };
        start(&|_| ()).unwrap();
        let authority = start(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(authority.unwrap_err().contains("CA:FALSE"));
        let expired = start(&|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1));
        assert!(expired.unwrap_err().contains("has expired"));
        let client = start(&|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert!(client.unwrap_err().contains("not for servers"));
        // The clients' clocks decide when it is valid.
        start(&|params| params.not_before = rcgen::date_time_ymd(4000, 1, 1)).unwrap();
    }
}

//! Whether the coordinator's certificate is trusted, and what to do if it is not.

use std::sync::Arc;

use edgesmith_common::Fingerprint;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

/// Trusts certificates that the authority of one fingerprint has signed, and no others. The server
/// sends the authority's certificate along. Names, dates and signatures are checked as always.
#[derive(Debug)]
pub struct PinnedAuthority {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

/// The server has another authority than the one that is trusted.
#[derive(Debug, thiserror::Error)]
#[error(
    "the token is of a coordinator with the fingerprint {expected}, and this is not that one; use a \
     token of this coordinator, or check the address"
)]
struct OtherAuthority {
    expected: Fingerprint,
}

impl PinnedAuthority {
    /// Trusts the authority with this fingerprint.
    pub fn new(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, provider: Arc::new(ring::default_provider()) }
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let expected = self.fingerprint;
        let is_it = |certificate: &&CertificateDer<'_>| fingerprint(certificate) == expected;
        let authority = intermediates.iter().find(is_it).ok_or_else(|| {
            let other = OtherError(Arc::new(OtherAuthority { expected }));
            Error::InvalidCertificate(CertificateError::Other(other))
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    Fingerprint(bytes)
}

/// Why there is no connection, for people: the sentence for a failure of TLS, or the innermost
/// cause.
pub fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    loop {
        if let Some(error) = tls_error(innermost) {
            return explain(error);
        }
        match innermost.source() {
            Some(source) => innermost = source,
            // The library's type for this is private.
            None if innermost.to_string() == "HTTP/2 was not negotiated." => {
                return NO_HTTP2.to_owned();
            }
            None => return innermost.to_string(),
        }
    }
}

/// Whether something answered, and TLS with it failed.
pub fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| tls_error(error).is_some())
}

fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    if let Some(error) = error.downcast_ref() {
        return Some(error);
    }
    // An I/O error does not give the error that it wraps as its source.
    error.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref()
}

fn explain(error: &Error) -> String {
    let text = match error {
        Error::InvalidCertificate(certificate) => return explain_certificate(certificate),
        Error::InvalidMessage(_) => "it answers without TLS; write the address as http://HOST:PORT",
        Error::NoCertificatesPresented => "it sent no certificate; check the address",
        Error::NoApplicationProtocol => NO_HTTP2,
        Error::PeerIncompatible(_) => OTHER_KIND,
        Error::AlertReceived(alert) => explain_alert(*alert),
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => {
            "what it sends breaks the rules of TLS; check the address, and whether something on the \
             way changes the connection"
        }
        Error::FailedToGetCurrentTime => "this machine's clock cannot be read",
        Error::FailedToGetRandomBytes => "this operating system gives no random bytes",
        // The others cannot happen to a client without options, or have a plain text.
        error => return format!("TLS failed: {error}"),
    };
    text.to_owned()
}

const NO_HTTP2: &str = "it does not speak HTTP/2, so it is no coordinator; check the address";
const OTHER_KIND: &str = "it has no version or cipher of TLS in common with this program, which knows \
     versions 1.2 and 1.3; check the address";

/// What an alert means with which the other side ended TLS.
fn explain_alert(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity => OTHER_KIND,
        A::NoApplicationProtocol => NO_HTTP2,
        A::UnrecognisedName => {
            "it does not know the name in the address; use a name that its certificate is for"
        }
        A::NoCertificate
        | A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied
        | A::CertificateRequired => {
            "it asks clients for a certificate, which no coordinator does; check the address"
        }
        A::InternalError => "its own TLS is broken; look at its log",
        // Alerts are numbers that anyone may send, and these say nothing that helps.
        _ => "it ended TLS without a reason that helps; check the address and look at its log",
    }
}

fn explain_certificate(certificate: &CertificateError) -> String {
    use CertificateError as C;
    let text = match certificate {
        C::UnknownIssuer => {
            "its certificate is signed by no authority that is trusted here; use a token that the \
             coordinator made (es1.…), or name the authority's file with --tls-ca"
        }
        C::Expired | C::ExpiredContext { .. } => {
            "its certificate has expired, or this machine's clock is wrong; renew the certificate or \
             set the clock"
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or this machine's clock is wrong; set the clock"
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            "its certificate is for another name than the address has; use a name that the \
             certificate is for, or a token that the coordinator made"
        }
        C::BadEncoding => "its certificate cannot be read; make another one for the coordinator",
        C::Revoked => "its certificate was revoked; get a new one for the coordinator",
        C::BadSignature => {
            "its certificate is not signed by the authority that it names; check --tls-ca and the \
             token, or make another certificate"
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            "its certificate is not for servers; make one with the extended key usage serverAuth"
        }
        C::UnhandledCriticalExtension => {
            "its certificate has a critical extension that this program does not know; make one \
             without it"
        }
        C::UnsupportedSignatureAlgorithmContext { .. }
        | C::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => UNKNOWN_SIGNATURE,
        C::Other(other) if other.0.is::<OtherAuthority>() => return other.0.to_string(),
        C::Other(other) => return explain_other(&other.0.to_string()),
        // Those that the library no longer uses, and those of lists that are not read.
        _ => "its certificate is unusable; make another one for the coordinator",
    };
    text.to_owned()
}

const UNKNOWN_SIGNATURE: &str = "its certificate is signed in a way that this program does not know; \
     make one with ECDSA, Ed25519, or RSA with SHA-256";

/// The words for a fault of a certificate of which the library gives only a name.
fn explain_other(name: &str) -> String {
    let text = match name {
        "CaUsedAsEndEntity" => {
            "its certificate is an authority's own, so it may not be used by a server; sign one for \
             the coordinator with it"
        }
        "EndEntityUsedAsCa" => {
            "its certificate is signed by one that may not sign others; sign it with an authority's"
        }
        "PathLenConstraintViolated" => {
            "its certificate comes from an authority that another authority was not allowed to \
             sign; sign it with a higher one"
        }
        "NameConstraintViolation" => {
            "its certificate is signed by an authority that may not sign for this name"
        }
        "UnsupportedCertVersion" => "its certificate is of X.509 version 1; make one of version 3",
        name => {
            return format!(
                "its certificate breaks a rule ({name}); make another one for the coordinator"
            );
        }
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn certificate(authority: &Authority, name: &str, until: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
    }

    #[test]
    fn only_certificates_of_the_pinned_authority_for_a_coordinator_are_trusted() {
        let (ours, theirs) = (authority(), authority());
        let pinned = PinnedAuthority::new(fingerprint(ours.der()));
        let verify = |leaf: CertificateDer<'static>, sent: &Authority| {
            let name = ServerName::try_from("edgesmith").unwrap();
            let sent = [sent.der().clone()];
            let verified = pinned.verify_server_cert(&leaf, &sent, &name, &[], UnixTime::now());
            verified.map(|_| ()).map_err(|error| explain(&error))
        };
        verify(certificate(&ours, "edgesmith", 4000), &ours).unwrap();
        let refused = |leaf, sent| verify(leaf, sent).unwrap_err();
        let other = refused(certificate(&theirs, "edgesmith", 4000), &theirs);
        assert!(other.contains("not that one"), "{other}");
        // Somebody who sends the right authority along cannot sign with its key.
        let forged = refused(certificate(&theirs, "edgesmith", 4000), &ours);
        assert!(forged.contains("certificate"), "{forged}");
        let name = refused(certificate(&ours, "elsewhere", 4000), &ours);
        assert!(name.contains("another name"), "{name}");
        let expired = refused(certificate(&ours, "edgesmith", 2000), &ours);
        assert!(expired.contains("expired"), "{expired}");
    }

    #[test]
    fn failures_of_tls_say_what_to_do() {
        let said = |error| explain(&error);
        let issuer = said(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert!(issuer.contains("--tls-ca"), "{issuer}");
        let plain = Error::InvalidMessage(tokio_rustls::rustls::InvalidMessage::InvalidContentType);
        // As it arrives: wrapped in an I/O error.
        let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, plain);
        assert!(reason(&wrapped).contains("http://"), "{}", reason(&wrapped));
    }

    #[test]
    fn failures_of_tls_are_in_words_and_not_in_names_of_the_library() {
        use tokio_rustls::rustls::{PeerIncompatible, PeerMisbehaved};
        let certificate = Error::InvalidCertificate;
        let other = |name: &str| {
            let text: Box<dyn std::error::Error + Send + Sync> = name.into();
            certificate(CertificateError::Other(OtherError(text.into())))
        };
        let all = [
            Error::AlertReceived(AlertDescription::HandshakeFailure),
            Error::AlertReceived(AlertDescription::CertificateRequired),
            Error::AlertReceived(AlertDescription::UnrecognisedName),
            Error::AlertReceived(AlertDescription::InternalError),
            Error::AlertReceived(AlertDescription::from(200)),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived),
            Error::DecryptError,
            Error::NoApplicationProtocol,
            certificate(CertificateError::BadEncoding),
            certificate(CertificateError::BadSignature),
            certificate(CertificateError::InvalidPurpose),
            certificate(CertificateError::UnhandledCriticalExtension),
            certificate(CertificateError::UnknownRevocationStatus),
            other("CaUsedAsEndEntity"),
            other("PathLenConstraintViolated"),
        ];
        for error in all {
            let text = explain(&error);
            // Names of the library have capitals within a word.
            let named = text
                .as_bytes()
                .windows(2)
                .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
            assert!(!named || text.contains("serverAuth"), "{error:?}: {text}");
            assert!(text.contains("; "), "no mend: {text}");
        }
    }
}

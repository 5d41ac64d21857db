//! HTTPS towards clients: rustls with TLS 1.2 and 1.3, certificate and key from PEM files.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What is wrong with certificates or keys.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path} cannot be read as PEM")]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{path} holds no certificate")]
    NoCertificate { path: PathBuf },
    #[error("the certificate in {certificate} and the key in {key} cannot be used together")]
    Unusable { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("a certificate in {path} cannot be trusted as an authority")]
    Authority { path: PathBuf, source: rustls::Error },
    #[error("the TLS library refuses its own protocol versions")]
    Versions(#[source] rustls::Error),
}

/// The server's side. Errors: files that cannot be read, a key that does not belong to the certificate.
pub fn server(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = certificates(certificate)?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Pem { path: key.to_owned(), source })?;
    let unusable = |source| TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), source };
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Versions)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)
}

/// The client's side, towards the store: the system's authorities and, if there is a file, private ones besides. Where the system has
/// none, those that Mozilla ships stand in.
pub fn client(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    // What the system holds besides usable certificates is not our business.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = ca_file {
        for authority in certificates(path)? {
            roots.add(authority).map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
        }
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// Whether an address may be listened on: off loopback only with TLS, or when the configuration allows plain HTTP in words.
#[must_use]
pub fn listen_allowed(address: SocketAddr, tls: bool, allow_plain: bool) -> bool {
    tls || allow_plain || address.ip().is_loopback()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Pem { path: path.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(chain) }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_loopback() {
        let (local, open) = ("127.0.0.1:9000".parse().unwrap(), "0.0.0.0:9000".parse().unwrap());
        assert!(listen_allowed(local, false, false));
        assert!(listen_allowed("[::1]:9000".parse().unwrap(), false, false));
        assert!(!listen_allowed(open, false, false));
        assert!(listen_allowed(open, true, false));
        assert!(listen_allowed(open, false, true));
    }

    #[test]
    fn files_that_do_not_fit_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        assert!(matches!(server(&path, &path), Err(TlsError::Pem { .. })));
        std::fs::write(&path, "nothing").unwrap();
        assert!(matches!(server(&path, &path), Err(TlsError::NoCertificate { .. })));
        assert!(matches!(client(Some(&path)), Err(TlsError::NoCertificate { .. })));
        assert!(client(None).is_ok());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["one", "two"] {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            std::fs::write(path(&format!("{name}.pem")), made.cert.pem()).unwrap();
            std::fs::write(path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        }
        assert!(server(&path("one.pem"), &path("one.key")).is_ok());
        assert!(client(Some(&path("one.pem"))).is_ok());
        assert!(matches!(server(&path("one.pem"), &path("two.key")), Err(TlsError::Unusable { .. })));
        assert!(matches!(server(&path("one.key"), &path("one.key")), Err(TlsError::NoCertificate { .. })));
        assert!(matches!(server(&path("one.pem"), &path("one.pem")), Err(TlsError::Pem { .. })));
    }
}

//! TLS towards PostgreSQL: what each `sslmode` verifies (manual: "SSL Support" of libpq).
//!
//! Not given, the mode is `verify-full` for a host elsewhere and `prefer` for this machine: rows
//! and passwords do not leave the machine towards a server that has not proven who it is.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

use super::options::Host;

/// The parameters that bear on TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// `None`: by the host.
    pub(super) mode: Option<SslMode>,
    pub(super) roots: Roots,
    /// Certificate chain and key of the client, PEM files.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// Whom we trust to sign server certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// A PEM file.
    File(PathBuf),
    /// The operating system's store.
    System,
}

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only when the server insists; nothing is verified.
    Allow,
    /// TLS when the server can; nothing is verified.
    Prefer,
    /// TLS always; nothing is verified unless a root certificate file is given.
    Require,
    /// TLS always; the certificate is signed by a root that we trust.
    VerifyCa,
    /// As `VerifyCa`, and it was made for this host.
    VerifyFull,
}

/// Files that do not hold what TLS needs of them.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum TlsError {
    #[error("cannot read certificates from {}: {problem}", path.display())]
    Certificates { path: PathBuf, problem: String },
    #[error("cannot read a private key from {}: {problem}", path.display())]
    Key { path: PathBuf, problem: String },
    #[error("the system has no root certificates; name a PEM file in POSTGRES_CA_CERT")]
    NoRoots,
    #[error("{0}")]
    Rustls(String),
}

impl SslMode {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

impl Tls {
    /// The modes to try in turn for this host, each of them `Disable`, `Require` (unverified),
    /// `VerifyCa` or `VerifyFull`.
    pub(super) fn attempts(&self, host: &Host) -> &'static [SslMode] {
        if host.is_socket() {
            return &[SslMode::Disable];
        }
        let default = if host.is_local() {
            SslMode::Prefer
        } else {
            SslMode::VerifyFull
        };
        match self.mode.unwrap_or(default) {
            SslMode::Disable => &[SslMode::Disable],
            SslMode::Allow => &[SslMode::Disable, SslMode::Require],
            SslMode::Prefer => &[SslMode::Require, SslMode::Disable],
            // As libpq has it: with a root certificate at hand, `require` verifies the chain.
            SslMode::Require if self.roots != Roots::System => &[SslMode::VerifyCa],
            SslMode::Require => &[SslMode::Require],
            SslMode::VerifyCa => &[SslMode::VerifyCa],
            SslMode::VerifyFull => &[SslMode::VerifyFull],
        }
    }

    /// A PEM file with the roots: the one that was given, or the system's bundle if it is a file.
    pub(super) fn roots_file(&self) -> Option<PathBuf> {
        match &self.roots {
            Roots::File(path) => Some(path.clone()),
            Roots::System => openssl_probe::probe().cert_file,
        }
    }

    /// What rustls needs to speak in `mode`, one of those that [`Self::attempts`] gives.
    pub(super) fn client_config(&self, mode: SslMode) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Rustls(error.to_string()))?;
        let builder = match mode {
            SslMode::VerifyFull => builder.with_root_certificates(self.root_store()?),
            SslMode::VerifyCa => {
                let roots = Arc::new(self.root_store()?);
                let chain = WebPkiServerVerifier::builder_with_provider(roots, provider)
                    .build()
                    .map_err(|error| TlsError::Rustls(error.to_string()))?;
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(AnyName(chain)))
            }
            SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        };
        let Some((certificate, key)) = &self.client else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::Key {
            path: key.clone(),
            problem: error.to_string(),
        })?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| TlsError::Rustls(format!("the client's certificate: {error}")))
    }

    fn root_store(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        let found = match &self.roots {
            Roots::File(path) => certificates(path)?,
            Roots::System => rustls_native_certs::load_native_certs().certs,
        };
        store.add_parsable_certificates(found);
        match &self.roots {
            _ if !store.is_empty() => Ok(store),
            Roots::System => Err(TlsError::NoRoots),
            Roots::File(path) => Err(TlsError::Certificates {
                path: path.clone(),
                problem: "none of them can sign".to_owned(),
            }),
        }
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |problem: String| TlsError::Certificates {
        path: path.clone(),
        problem,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(error.to_string()))?;
    if found.is_empty() {
        return Err(unreadable("there are none in it".to_owned()));
    }
    Ok(found)
}

/// `verify-ca`: the chain counts, the name does not.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is compared after the chain, so only the name is wrong here.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `require`: encrypted towards whoever answers.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! Why there was no answer, out of a chain of errors of which most repeat the address.

use std::{error::Error, io};

type Any = dyn Error + 'static;

use rustls::{CertificateError, InvalidMessage};

/// Why a request found no answer, and what mends it where a setting of ours can.
pub(super) fn cause(error: &Any) -> String {
    let told = deepest_cause(error);
    match tls_remedy(error) {
        Some(remedy) => format!("{told}; {remedy}"),
        None => told,
    }
}

/// What to do about a handshake that rustls did not accept.
fn tls_remedy(error: &Any) -> Option<&'static str> {
    // An I/O error's source is that of the error in it, which would be passed over.
    fn inner<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a Any> {
        match error.downcast_ref::<io::Error>() {
            Some(outer) => outer.get_ref().map(|inner| inner as &Any),
            None => (**error).source(),
        }
    }
    let mut chain = std::iter::successors(Some(error), inner);
    let problem = chain.find_map(|error| error.downcast_ref())?;
    let problem = match problem {
        rustls::Error::InvalidCertificate(problem) => problem,
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            return Some("it does not speak TLS: is it http:// in ELASTICSEARCH_URLS?");
        }
        _ => return None,
    };
    Some(match problem {
        CertificateError::UnknownIssuer => {
            "name the authority that signed it, a PEM file, in ELASTICSEARCH_CA_CERT"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "name the node in ELASTICSEARCH_URLS as its certificate does"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "renew the node's certificate"
        }
        _ => return None,
    })
}

/// The innermost error says what happened; those around it repeat the address.
pub(super) fn deepest_cause(error: &Any) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

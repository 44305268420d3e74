//! The bearer token that every call must carry, if one is set.

use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Checks calls. Stores the token's hash, because hashes are compared in constant time, which
/// reveals nothing about the token.
#[derive(Debug, Clone)]
pub struct Auth(Option<blake3::Hash>);

impl Auth {
    /// Without a token, every call passes.
    pub fn new(token: Option<&str>) -> Self {
        Self(token.map(|t| blake3::hash(t.as_bytes())))
    }
}

impl Interceptor for Auth {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = self.0 else { return Ok(request) };
        let header = request.metadata().get("authorization").and_then(|v| v.to_str().ok());
        match header.and_then(|h| h.strip_prefix("Bearer ")) {
            Some(token) if blake3::hash(token.as_bytes()) == expected => Ok(request),
            Some(_) => Err(Status::unauthenticated(
                "the token is wrong; use the token that this coordinator was started with",
            )),
            None => Err(Status::unauthenticated(
                "this coordinator requires a token; give it with --token or EDGESMITH_TOKEN",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(auth: &Auth, header: Option<&str>) -> Option<tonic::Code> {
        let mut request = Request::new(());
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        auth.clone().call(request).err().map(|status| status.code())
    }

    #[test]
    fn only_the_token_passes() {
        let auth = Auth::new(Some("secret"));
        assert_eq!(code(&auth, Some("Bearer secret")), None);
        for header in [None, Some("Bearer wrong"), Some("secret"), Some("Bearer ")] {
            assert_eq!(code(&auth, header), Some(tonic::Code::Unauthenticated), "{header:?}");
        }
        assert_eq!(code(&Auth::new(None), None), None);
    }
}

//! Virtual-host style addresses: the bucket in the host name, below one of the configured domains.
//!
//! Any other host is taken for the gateway itself and the bucket for part of the path, whatever the host is called: a client that
//! reaches the gateway by a name or address that nobody configured still finds its buckets.

use std::sync::Arc;

use http::HeaderMap;
use s3s::S3Result;
use s3s::host::{DomainError, MultiDomain, S3Host, SingleDomain, VirtualHost};

/// The domains whose subdomains are buckets. Cloning shares them; without any, every address is path style.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Arc<[SingleDomain]>);

impl Hosts {
    /// Takes domains over; a port in one of them does not count.
    ///
    /// # Errors
    /// What is no domain, and domains of which one lies below another.
    pub fn new<D: AsRef<str>>(domains: &[D]) -> Result<Self, DomainError> {
        let domains: Vec<String> = domains.iter().map(|domain| domain.as_ref().to_ascii_lowercase()).collect();
        if !domains.is_empty() {
            MultiDomain::new(&domains)?;
        }
        let one = |domain: &String| SingleDomain::new(domain).map(|domain| domain.with_cname_fallback(false));
        Ok(Self(domains.iter().map(one).collect::<Result<_, _>>()?))
    }

    /// The bucket that the host names.
    #[must_use]
    pub fn bucket(&self, headers: &HeaderMap) -> Option<String> {
        let host = headers.get(http::header::HOST)?.to_str().ok()?;
        self.bucket_of(host)
    }

    fn bucket_of(&self, host: &str) -> Option<String> {
        let host = host.to_ascii_lowercase();
        // A name that one domain cannot make sense of may belong to another, or to none.
        let buckets = self.0.iter().filter_map(|domain| Some(domain.parse_host_header(&host).ok()?.bucket()?.to_owned()));
        buckets.into_iter().next()
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let whole = VirtualHost::new(host);
        Ok(match self.bucket_of(host) {
            Some(bucket) => whole.with_bucket(bucket),
            None => whole,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_found_below_the_domains_and_nowhere_else() {
        let hosts = Hosts::new(&["s3.example.com", "Data.test:9000"]).unwrap();
        for (host, bucket) in [
            ("photos.s3.example.com", Some("photos")),
            ("photos.s3.example.com:9000", Some("photos")),
            ("PHOTOS.S3.Example.Com", Some("photos")),
            ("a.b.c.s3.example.com", Some("a.b.c")),
            ("photos.data.test", Some("photos")),
            ("photos.data.test:80", Some("photos")),
            ("s3.example.com", None),
            ("s3.example.com:9000", None),
            ("example.com", None),
            ("photos.example.com", None),
            ("photos.s3-example.com", None),
            ("evil-s3.example.com", None),
            ("localhost", None),
            ("photos", None),
            ("127.0.0.1:9000", None),
            ("[::1]:9000", None),
            ("not a host", None),
            ("", None),
        ] {
            assert_eq!(hosts.bucket_of(host).as_deref(), bucket, "{host}");
            assert_eq!(hosts.parse_host_header(host).unwrap().bucket(), bucket, "{host}");
        }
        assert_eq!(Hosts::default().bucket_of("photos.s3.example.com"), None);
        assert_eq!(Hosts::new::<&str>(&[]).unwrap().bucket_of("photos.s3.example.com"), None);
    }

    #[test]
    fn domains_are_checked() {
        for wrong in ["", "a b", "example.com.", "-x_.com"] {
            assert!(Hosts::new(&[wrong]).is_err(), "{wrong}");
        }
        assert!(Hosts::new(&["example.com", "s3.example.com"]).is_err());
        assert!(Hosts::new(&["example.com", "EXAMPLE.com"]).is_err());
    }
}

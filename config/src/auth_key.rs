//! The items of `auth.keys`: keys that verify tokens, selected by their `kid`.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value as Toml;

use crate::file;
use crate::mistake::{Mistakes, Problem};
use crate::nearest::nearest;
use crate::secret::Secret;
use crate::value::{Value, string, wrong_type};

/// Minimum length of an HS256 secret, in bytes (RFC 7518 §3.2: as long as the hash).
pub(crate) const HS256_BYTES_MIN: usize = 32;

/// A key that verifies tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthKey {
    /// The `kid` of the tokens that it verifies.
    pub kid: String,
    /// The algorithm and its key.
    pub material: KeyMaterial,
}

/// An algorithm (RFC 7518 §3.1, RFC 8037 §3.1) and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// HMAC with SHA-256 and a secret of at least 32 bytes.
    Hs256(Secret),
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rs256(PublicKey),
    /// ECDSA with P-256 and SHA-256.
    Es256(PublicKey),
    /// EdDSA with Ed25519.
    EdDsa(PublicKey),
}

impl KeyMaterial {
    /// The algorithm's name in tokens and in the configuration.
    pub fn alg(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }
}

/// A public key as PEM. Whether it fits its algorithm is checked where it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    pem: String,
    /// The file it was read from.
    file: Option<PathBuf>,
}

impl PublicKey {
    fn new(pem: &str) -> Self {
        Self { pem: pem.to_owned(), file: None }
    }

    fn from_file(path: &Path) -> Result<Self, Problem> {
        let bytes = file::read(path, file::SECRET_BYTES_MAX)?;
        let pem = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { pem, file: Some(path.to_owned()) })
    }

    /// The PEM text.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Refuses what is obviously something else, in particular a private key.
    fn check(&self) -> Result<(), Problem> {
        let is = |label: &str| self.pem.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(label));
        if is("PRIVATE KEY") {
            return Err(Problem::Wrong("a private key; only the public one belongs here".to_owned()));
        }
        if !is("PUBLIC KEY") {
            return Err(Problem::Wrong("not a public key in PEM (-----BEGIN PUBLIC KEY-----)".to_owned()));
        }
        Ok(())
    }

    fn write_to(&self, table: &mut toml::Table) {
        match &self.file {
            Some(file) => table.insert("public_key_file".to_owned(), file.to_string_lossy().into_owned().into()),
            None => table.insert("public_key".to_owned(), self.pem.as_str().into()),
        };
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The fields of an item.
const FIELDS: [&str; 6] = ["alg", "kid", "public_key", "public_key_file", "secret", "secret_file"];
/// The known algorithms.
const ALGS: &str = "one of HS256, RS256, ES256, EdDSA";

impl Value for Vec<AuthKey> {
    const IS_SECRET: bool = true;

    fn type_name() -> String {
        "list of tables".to_owned()
    }

    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let Toml::Array(items) = value else {
            mistakes.push(at, wrong_type("list of tables", value));
            return None;
        };
        if items.is_empty() {
            // Nobody could sign in, and it must not be mistaken for development mode.
            mistakes.push(at, Problem::Wrong("empty; leave it out for development mode".to_owned()));
            return None;
        }
        let read: Vec<Option<AuthKey>> =
            items.iter().enumerate().map(|(n, item)| AuthKey::read(item, &format!("{at}[{n}]"), mistakes)).collect();
        read.into_iter().collect()
    }

    fn to_toml(&self) -> Option<Toml> {
        let items: Vec<Toml> = self.iter().map(AuthKey::to_toml).collect();
        (!items.is_empty()).then_some(Toml::Array(items))
    }
}

impl AuthKey {
    fn read(value: &Toml, at: &str, mistakes: &mut Mistakes) -> Option<Self> {
        let Toml::Table(table) = value else {
            mistakes.push(at, wrong_type("table", value));
            return None;
        };
        let mut item = Item { table, at, mistakes };
        item.refuse_unknown();
        let kid = item.required("kid");
        let material = item.material();
        Some(Self { kid: kid?.to_owned(), material: material? })
    }

    fn to_toml(&self) -> Toml {
        let mut table = toml::Table::new();
        table.insert("kid".to_owned(), self.kid.as_str().into());
        table.insert("alg".to_owned(), self.material.alg().into());
        match &self.material {
            KeyMaterial::Hs256(secret) => secret.write_to("secret", &mut table),
            KeyMaterial::Rs256(key) | KeyMaterial::Es256(key) | KeyMaterial::EdDsa(key) => key.write_to(&mut table),
        }
        Toml::Table(table)
    }
}

/// An item of the list, while it is read.
struct Item<'a> {
    table: &'a toml::Table,
    /// The item's path, such as `auth.keys[0]`.
    at: &'a str,
    mistakes: &'a mut Mistakes,
}

impl<'a> Item<'a> {
    fn wrong(&mut self, field: &str, problem: Problem) {
        self.mistakes.push(format!("{}.{field}", self.at), problem);
    }

    fn refuse_unknown(&mut self) {
        for field in self.table.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
            let nearest = nearest(field, FIELDS).to_owned();
            self.wrong(field, Problem::UnknownKey { nearest });
        }
    }

    /// The text of a field; `None` if it is missing or not a string, which has been recorded as a mistake.
    fn text(&mut self, field: &str) -> Option<&'a str> {
        let value = self.table.get(field)?;
        string(value, &format!("{}.{field}", self.at), "text", self.mistakes)
    }

    fn required(&mut self, field: &str) -> Option<&'a str> {
        match self.table.get(field) {
            None => self.wrong(field, Problem::Wrong("missing".to_owned())),
            Some(Toml::String(text)) if text.is_empty() => self.wrong(field, Problem::Wrong("empty".to_owned())),
            Some(_) => return self.text(field),
        }
        None
    }

    fn material(&mut self) -> Option<KeyMaterial> {
        match self.required("alg")? {
            "HS256" => {
                self.refuse_other("HS256", "public_key");
                self.secret().map(KeyMaterial::Hs256)
            }
            "RS256" => self.public_key("RS256").map(KeyMaterial::Rs256),
            "ES256" => self.public_key("ES256").map(KeyMaterial::Es256),
            "EdDSA" => self.public_key("EdDSA").map(KeyMaterial::EdDsa),
            other => {
                self.wrong("alg", Problem::NotA { value: other.to_owned(), expected: ALGS.to_owned() });
                None
            }
        }
    }

    /// Refuses a field that belongs to other algorithms, and its `_file`.
    fn refuse_other(&mut self, alg: &str, field: &str) {
        for field in [field.to_owned(), format!("{field}_file")] {
            if self.table.contains_key(&field) {
                self.wrong(&field, Problem::Wrong(format!("not for {alg}")));
            }
        }
    }

    fn secret(&mut self) -> Option<Secret> {
        let secret = self.given_or_file("secret", |text| Secret::new(text), Secret::from_file)?;
        if secret.expose().len() < HS256_BYTES_MIN {
            self.wrong(&secret.given_by("secret"), short_secret(&secret));
            return None;
        }
        Some(secret)
    }

    fn public_key(&mut self, alg: &str) -> Option<PublicKey> {
        self.refuse_other(alg, "secret");
        let key = self.given_or_file("public_key", PublicKey::new, PublicKey::from_file)?;
        if let Err(problem) = key.check() {
            let field = if key.file.is_some() { "public_key_file" } else { "public_key" };
            self.wrong(field, problem);
            return None;
        }
        Some(key)
    }

    /// Makes the key from `field` or from the file in `<field>_file`; exactly one must be set.
    fn given_or_file<T>(
        &mut self,
        field: &str,
        given: impl FnOnce(&str) -> T,
        read: impl FnOnce(&Path) -> Result<T, Problem>,
    ) -> Option<T> {
        let file_field = format!("{field}_file");
        match (self.table.contains_key(field), self.table.contains_key(&file_field)) {
            (true, false) => self.text(field).map(given),
            (false, true) => {
                let path = self.text(&file_field)?;
                read(Path::new(path)).map_err(|problem| self.wrong(&file_field, problem)).ok()
            }
            (true, true) => {
                self.wrong(field, Problem::Wrong(format!("set together with {file_field}; only one may be")));
                None
            }
            (false, false) => {
                self.wrong(field, Problem::Wrong(format!("missing; set it or {file_field}")));
                None
            }
        }
    }
}

/// The mistake of a secret that is too short for HS256.
pub(crate) fn short_secret(secret: &Secret) -> Problem {
    let length = secret.expose().len();
    Problem::Wrong(format!("has {length} bytes; HS256 needs at least {HS256_BYTES_MIN}"))
}

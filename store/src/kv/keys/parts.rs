//! Splits a key into its parts.

use crate::StoreError;

/// The unread parts of a key.
pub(super) struct Parts<'a> {
    key: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn new(key: &'a [u8]) -> Self {
        Self { key, rest: key.get(1..).unwrap_or_default() }
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.unreadable())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, StoreError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        let bytes = self.take(8)?.try_into().map_err(|_| self.unreadable())?;
        Ok(u64::from_be_bytes(bytes))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, StoreError> {
        let len = usize::from(self.byte()?);
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.unreadable())
    }

    pub(super) fn id<T: TryFrom<&'a str>>(&mut self) -> Result<T, StoreError> {
        T::try_from(self.text()?).map_err(|_| self.unreadable())
    }

    pub(super) fn last<T: TryFrom<&'a str>>(&mut self) -> Result<T, StoreError> {
        let bytes = self.take(self.rest.len())?;
        std::str::from_utf8(bytes).ok().and_then(|text| T::try_from(text).ok()).ok_or_else(|| self.unreadable())
    }

    pub(super) fn unreadable(&self) -> StoreError {
        StoreError::Unreadable { what: format!("key {}", self.key.escape_ascii()) }
    }
}

"""The offline keys, what they have signed, and the signature that makes a draft a release."""

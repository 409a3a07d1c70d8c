"""The mechanics of TFMOT; nothing outside of this package imports it."""

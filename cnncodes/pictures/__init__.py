"""Pictures: everything that ends as an image."""

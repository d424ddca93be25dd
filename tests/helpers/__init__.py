"""What tests share: small corpora, media, models, stores and servers."""

"""Arrays in, arrays out: encoders, fusion, training, metrics. Knows no store."""

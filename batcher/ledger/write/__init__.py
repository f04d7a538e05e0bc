"""The hot path: records in, group commits out, acknowledged after COMMIT."""

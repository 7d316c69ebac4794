"""What trains the bundled demo model: a tokenizer, a small Llama, batches, and the files to serve it from."""

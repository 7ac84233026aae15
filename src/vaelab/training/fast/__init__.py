"""What exists for speed alone; each part has a plain twin that tests hold it to."""

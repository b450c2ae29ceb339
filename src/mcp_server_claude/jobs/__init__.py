"""Work that outlives the request that started it: background answers, and one prompt over many items."""

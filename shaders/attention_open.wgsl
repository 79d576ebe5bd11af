// Every key may be seen.
@group(0) @binding(4) var<storage, read_write> o: array<element>;  // [.., tokens, heads * width]

// As they lie in memory: f32.
alias stored = words;
fn opened(v: stored) -> Eight { return eight_of(v); }
fn closed(v: Eight) -> stored { return words_of(v); }

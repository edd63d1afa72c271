//! Writes the queries of `tests/guard` into `seeds/`, one a file.

use std::path::Path;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    std::fs::create_dir_all(&folder).expect("the folder is writable");
    let mut count = 0;
    for text in
        [include_str!("../../tests/guard/honest.yaml"), include_str!("../../tests/guard/attacks.yaml")]
    {
        // Queries are block literals of one line.
        for pair in text.lines().collect::<Vec<_>>().windows(2).filter(|pair| pair[0].trim() == "sql: |-") {
            count += 1;
            std::fs::write(folder.join(format!("{count:04}")), pair[1].trim())
                .expect("the folder is writable");
        }
    }
    println!("{count} seeds in {}", folder.display());
}

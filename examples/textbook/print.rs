//! Prose, tensors side by side in columns, and what was checked.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};

static CHAPTERS: AtomicUsize = AtomicUsize::new(0);

/// The heading of the next chapter.
pub fn chapter(title: &str) {
    let number = CHAPTERS.fetch_add(1, Ordering::Relaxed) + 1;
    println!("\n\n{number}. {title}\n");
}

/// A paragraph, in lines of at most 98 characters.
pub fn prose(text: &str) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 98 {
            println!("{line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    println!("{line}");
}

/// A line by itself.
pub fn formula(text: &str) {
    println!("    {text}");
}

/// An empty line.
pub fn space() {
    println!();
}

/// Says what was checked.
pub fn checked(claim: &str) {
    println!("checked: {claim}");
}

/// Checks that two tensors have the same bits, and says so.
pub fn same_bits(claim: &str, left: &[f32], right: &[f32]) {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(left), bits(right), "{claim}: {left:?} and {right:?}");
    checked(claim);
}

/// Checks that two numbers, or lists of them, are equal, and says so.
pub fn equal<T: PartialEq + std::fmt::Debug>(claim: &str, left: T, right: T) {
    assert_eq!(left, right, "{claim}");
    checked(claim);
}

/// Rows of text under a title.
pub struct Block {
    title: String,
    rows: Vec<String>,
}

impl Block {
    /// A matrix, or a plane of an image, in rows of that `width`.
    pub fn of<T: Display>(title: &str, width: usize, values: &[T]) -> Block {
        let words: Vec<String> = values.iter().map(T::to_string).collect();
        let widest = words.iter().map(|word| word.chars().count()).max().unwrap_or(0);
        let row = |row: &[String]| {
            row.iter().map(|word| format!("{word:>widest$}")).collect::<Vec<_>>().join(" ")
        };
        Block { title: title.to_owned(), rows: words.chunks(width).map(row).collect() }
    }

    /// Where numbers are not zero. Zeros are dots.
    pub fn sparse(title: &str, width: usize, values: &[f32]) -> Block {
        let word = |value: &f32| if *value == 0.0 { ".".to_owned() } else { value.to_string() };
        Block::of(title, width, &values.iter().map(word).collect::<Vec<_>>())
    }

    fn width(&self) -> usize {
        self.rows.iter().chain([&self.title]).map(|row| row.chars().count()).max().unwrap_or(0)
    }
}

/// Blocks side by side, with an empty line before and behind.
pub fn beside(blocks: &[Block]) {
    println!();
    let height = blocks.iter().map(|block| block.rows.len()).max().unwrap_or(0);
    for at in 0..=height {
        let mut text = String::new();
        for block in blocks {
            let row = if at == 0 { Some(&block.title) } else { block.rows.get(at - 1) };
            let row = row.map_or("", String::as_str);
            text += &format!("    {row:<width$}", width = block.width());
        }
        println!("{}", text.trim_end());
    }
    println!();
}

/// A table: the first column is words, the others are numbers.
pub fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) {
    println!();
    let widest: [usize; COLUMNS] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    for row in rows {
        let mut text = format!("    {:<width$}", row[0], width = widest[0]);
        for (word, widest) in row.iter().zip(widest).skip(1) {
            text += &format!("   {word:>widest$}");
        }
        println!("{}", text.trim_end());
    }
    println!();
}

/// A row of a [`table`].
pub fn row<const COLUMNS: usize>(words: [&dyn Display; COLUMNS]) -> [String; COLUMNS] {
    words.map(|word| word.to_string())
}

/// A number with a comma for each thousand.
pub fn count(number: impl TryInto<u64>) -> String {
    let digits =
        number.try_into().map_or_else(|_| "?".to_owned(), |number: u64| number.to_string());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

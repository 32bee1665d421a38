//! A name's embedding, such that names which look alike are near each other by cosine: each of the
//! name's character trigrams adds ±1 at a few positions that its hash chooses (feature hashing), and
//! the sum is brought to length one. Good for misspellings, blind for meaning; needs no model.

use std::fmt::Write as _;

/// One position a trigram would let two unrelated trigrams on the same position weigh too much.
const POSITIONS_PER_TRIGRAM: usize = 8;

/// The embedding's elements, rounded to six decimals and separated by commas: the inside of a JSON
/// array and of a PostgreSQL array alike. Never all zero.
pub(crate) fn elements(name: &str, dimensions: usize) -> String {
    let sums = sums(name, dimensions);
    let length = sums
        .iter()
        .map(|&sum| f64::from(sum * sum))
        .sum::<f64>()
        .sqrt();

    // A sum is a small whole number, so only a handful of different texts occur.
    let largest = sums.iter().map(|sum| sum.abs()).max().unwrap_or(0);
    let texts: Vec<String> = (0..=largest)
        .map(|sum| decimal(f64::from(sum) / length))
        .collect();

    let mut out = String::with_capacity(dimensions * 8);
    for (position, &sum) in sums.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        if sum < 0 {
            out.push('-');
        }
        out.push_str(&texts[sum.unsigned_abs() as usize]);
    }
    out
}

fn sums(name: &str, dimensions: usize) -> Vec<i32> {
    // Spaces around it give every name a trigram, and mark where words begin and end.
    let letters: Vec<char> = format!(" {} ", name.trim().to_lowercase())
        .chars()
        .collect();
    let mut sums = vec![0; dimensions];
    for trigram in letters.windows(3.min(letters.len())) {
        let mut chosen = fastrand::Rng::with_seed(hash(trigram));
        for _ in 0..POSITIONS_PER_TRIGRAM {
            sums[chosen.usize(..dimensions)] += if chosen.bool() { 1 } else { -1 };
        }
    }
    if sums.iter().all(|&sum| sum == 0) {
        sums[0] = 1;
    }
    sums
}

/// FNV-1a: the standard library's hash is not promised to stay the same.
fn hash(trigram: &[char]) -> u64 {
    trigram.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &letter| {
        (hash ^ u64::from(letter)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn decimal(value: f64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::elements;

    #[test]
    fn a_misspelt_name_is_nearer_than_another_name_of_the_same_trade() {
        let name = "Lindqvist Harbour Logistics";
        let misspelt = cosine(name, "Lindquist Harbor Logistic");
        let another = cosine(name, "Bergström Polar Logistics");
        let unrelated = cosine(name, "Peña & Vidal Dairy");
        assert!(misspelt > 0.6, "{misspelt}");
        assert!(misspelt > another + 0.2, "{misspelt} {another}");
        assert!(another > unrelated, "{another} {unrelated}");
    }

    #[test]
    fn an_embedding_has_length_one_whatever_the_name() {
        for name in ["", "x", "Åkerman & Sjöström Weaving", "  spaced  "] {
            for dimensions in [1, 2, 256, 768] {
                let values = values(name, dimensions);
                assert_eq!(values.len(), dimensions);
                let length = dot(&values, &values).sqrt();
                assert!(
                    (length - 1.0).abs() < 1e-4,
                    "{name:?} {dimensions}: {length}"
                );
            }
        }
    }

    fn cosine(left: &str, right: &str) -> f64 {
        dot(&values(left, 256), &values(right, 256))
    }

    fn values(name: &str, dimensions: usize) -> Vec<f64> {
        let elements = elements(name, dimensions);
        elements
            .split(',')
            .map(|value| value.parse().unwrap())
            .collect()
    }

    fn dot(left: &[f64], right: &[f64]) -> f64 {
        left.iter().zip(right).map(|(l, r)| l * r).sum()
    }
}

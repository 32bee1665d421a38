//! One organization, from its seed and row number alone: any row can be made without the others.
//! Now and then a value is missing or an array is empty, as in real data.

use fastrand::Rng;
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::json;

use crate::copy::Line;
use crate::embedding;
use crate::words::{CERTIFICATIONS, COUNTRIES, City, Country, QUALITIES, SECTORS, SOURCES, Sector};

/// Writes the row's fields in the order of the table's columns.
pub(crate) fn write(seed: u32, row: u32, dimensions: usize, line: &mut Line) {
    let mut rng = Rng::with_seed(u64::from(seed) << 32 | u64::from(row));
    // wyrand's first number still resembles its seed.
    rng.u64(..);
    let country = pick(&mut rng, COUNTRIES);
    let city = pick(&mut rng, country.cities);
    let sector = pick(&mut rng, SECTORS);
    let name = name(&mut rng, country, city, sector);
    let legal_form = *pick(&mut rng, country.legal_forms);
    let domain = format!("{}.example", slug(&name));
    let founded_on = founded_on(&mut rng);

    line.field(Some(format!("{:016x}{:016x}", rng.u64(..), rng.u64(..))));
    line.field(Some(&name));
    line.field(mostly(format!("{name} {legal_form}"), 90, &mut rng));
    let description = description(&mut rng, &name, city, sector, founded_on);
    line.field(mostly(description, 85, &mut rng));
    address(&mut rng, country, city, line);
    line.field(mostly(format!("https://www.{domain}/"), 80, &mut rng));
    coordinates(&mut rng, city, line);
    contacts(&mut rng, country, &domain, line);
    line.array(Some(&industry_codes(&mut rng, sector)));
    line.array(Some(&some_of(&mut rng, SOURCES, 1)));
    size(&mut rng, line);
    line.field(mostly(founded_on, 85, &mut rng));
    line.field(mostly(identifiers(&mut rng, country), 95, &mut rng));
    line.field(mostly(attributes(&mut rng, legal_form), 90, &mut rng));
    let elements = embedding::elements(&name, dimensions);
    line.field(mostly(format!("{{{elements}}}"), 99, &mut rng));
    moments(&mut rng, line);
}

fn name(rng: &mut Rng, country: &Country, city: &City, sector: &Sector) -> String {
    let noun = pick(rng, sector.nouns);
    let family = pick(rng, country.families);
    let quality = pick(rng, QUALITIES);
    match rng.u8(..6) {
        0 => format!("{family} {noun}"),
        1 => format!("{family} & {} {noun}", pick(rng, country.families)),
        2 => format!("{quality} {noun}"),
        3 => format!("{} {noun}", city.name),
        4 => format!("{quality} {noun} {}", city.name),
        _ => format!("{family} {quality} {noun}"),
    }
}

fn description(
    rng: &mut Rng,
    name: &str,
    city: &City,
    sector: &Sector,
    founded_on: Date,
) -> String {
    let offer = pick(rng, sector.offers);
    let audience = pick(rng, sector.audiences);
    let year = founded_on.year();
    match rng.u8(..3) {
        0 => format!("{name} offers {offer} for {audience}."),
        1 => format!(
            "Since {year}, {name} of {} has offered {offer} for {audience}.",
            city.name
        ),
        _ => format!(
            "In {} the first address for {offer}; serves {audience} in all of {}.",
            city.name, city.region
        ),
    }
}

fn address(rng: &mut Rng, country: &Country, city: &City, line: &mut Line) {
    let street = pick(rng, country.streets);
    let number = rng.u32(1..180);
    let street = if country.number_first {
        format!("{number} {street}")
    } else {
        format!("{street} {number}")
    };
    line.field(mostly(street, 92, rng));
    line.field(Some(city.name));
    line.field(mostly(city.region, 95, rng));
    let postal_code: String = city
        .postal_pattern
        .chars()
        .map(|letter| if letter == '#' { digit(rng) } else { letter })
        .collect();
    line.field(mostly(postal_code, 92, rng));
    line.field(Some(country.code));
}

/// Within some ten kilometres of the city's centre; both or none.
fn coordinates(rng: &mut Rng, city: &City, line: &mut Line) {
    let known = rng.u8(..100) < 93;
    for centre in [city.latitude, city.longitude] {
        let near = centre + (rng.f64() - 0.5) * 0.2;
        line.field(known.then(|| format!("{near:.5}")));
    }
}

fn contacts(rng: &mut Rng, country: &Country, domain: &str, line: &mut Line) {
    let boxes = some_of(rng, &["info", "sales", "office", "jobs"], 0);
    let emails: Vec<String> = boxes
        .iter()
        .map(|name| format!("{name}@{domain}"))
        .collect();
    line.array(mostly(emails.as_slice(), 97, rng));
    let phones: Vec<String> = (0..rng.u8(..3))
        .map(|_| format!("{} 555 {:04}", country.dialling_code, rng.u32(..10_000)))
        .collect();
    line.array(mostly(phones.as_slice(), 97, rng));
}

fn industry_codes(rng: &mut Rng, sector: &Sector) -> Vec<String> {
    let mut codes = some_of(rng, sector.codes, 1);
    if rng.u8(..10) == 0 {
        let second = pick(rng, SECTORS);
        codes.extend(some_of(rng, second.codes, 1));
    }
    codes
}

/// Most are small, a few are very large; revenue follows the number of people.
fn size(rng: &mut Rng, line: &mut Line) {
    let magnitude = rng.u32(..4).min(rng.u32(..5));
    let employees = rng.u64(1..10) * 10_u64.pow(magnitude) + rng.u64(..10);
    let cents = employees * rng.u64(4_000_000..30_000_000) + rng.u64(..100);
    line.field(mostly(employees, 90, rng));
    line.field(mostly(
        format!("{}.{:02}", cents / 100, cents % 100),
        75,
        rng,
    ));
}

fn founded_on(rng: &mut Rng) -> Date {
    date(1870, 1, 1).saturating_add(rng.i32(0..56_000).days())
}

fn identifiers(rng: &mut Rng, country: &Country) -> serde_json::Value {
    let vat = format!("{}{:09}", country.code, rng.u32(..1_000_000_000));
    let register = format!("{} {}", country.register, rng.u32(1_000..1_000_000));
    if rng.bool() {
        let lei = format!(
            "5299{:014}{:02}",
            rng.u64(..100_000_000_000_000),
            rng.u8(2..99)
        );
        json!({ "vat": vat, "register": register, "lei": lei })
    } else {
        json!({ "vat": vat, "register": register })
    }
}

fn attributes(rng: &mut Rng, legal_form: &str) -> serde_json::Value {
    json!({
        "legal_form": legal_form,
        "active": rng.u8(..20) > 0,
        "rating": f64::from(rng.u8(10..51)) / 10.0,
        "certifications": some_of(rng, CERTIFICATIONS, 0),
        "parent": if rng.bool() { json!(null) } else { json!({ "share": rng.u8(25..101) }) },
    })
}

/// Created in the years from 2020 on, updated within the year after.
fn moments(rng: &mut Rng, line: &mut Line) {
    let first = Timestamp::from_second(1_577_836_800).unwrap_or(Timestamp::UNIX_EPOCH);
    let created_at = first + SignedDuration::from_micros(rng.i64(0..150_000_000_000_000));
    line.field(Some(created_at));
    line.field(Some(
        created_at + SignedDuration::from_micros(rng.i64(0..31_000_000_000_000)),
    ));
}

fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}

/// The value in so many of a hundred rows, NULL in the others.
fn mostly<T>(value: T, percent: u8, rng: &mut Rng) -> Option<T> {
    (rng.u8(..100) < percent).then_some(value)
}

/// At least `least` of the choices, in their order.
fn some_of(rng: &mut Rng, choices: &[&str], least: usize) -> Vec<String> {
    let certain = rng.usize(..choices.len());
    choices
        .iter()
        .enumerate()
        .filter(|(position, _)| rng.u8(..3) == 0 || (least > 0 && *position == certain))
        .map(|(_, choice)| (*choice).to_owned())
        .collect()
}

fn digit(rng: &mut Rng) -> char {
    char::from(b'0' + rng.u8(..10))
}

/// A name as part of a domain: letters and digits, other letters by their nearest plain one.
fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for letter in name.to_lowercase().chars() {
        match letter {
            'a'..='z' | '0'..='9' => slug.push(letter),
            'ä' | 'å' | 'à' | 'á' => slug.push('a'),
            'ö' | 'ø' | 'ó' | 'ô' => slug.push('o'),
            'ü' | 'ú' => slug.push('u'),
            'é' | 'è' | 'ê' | 'ë' => slug.push('e'),
            'í' => slug.push('i'),
            'ñ' => slug.push('n'),
            'ç' => slug.push('c'),
            'ß' => slug.push_str("ss"),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::write;
    use crate::copy::Line;

    #[test]
    fn a_row_depends_on_nothing_but_its_seed_and_number() {
        assert_eq!(row(1, 7), row(1, 7));
        assert_ne!(row(1, 7), row(1, 8));
        assert_ne!(row(1, 7), row(2, 7));
    }

    #[test]
    fn every_row_has_a_field_for_each_column_of_the_table() {
        let table = include_str!("../../sql/01-table.sql");
        let columns = table
            .lines()
            .filter(|line| line.starts_with("    "))
            .count();
        // The last of those lines is a comment on the embedding.
        let columns = columns - 1;
        for number in 0..200 {
            assert_eq!(row(1, number).split('\t').count(), columns, "row {number}");
        }
    }

    fn row(seed: u32, number: u32) -> String {
        let mut line = Line::default();
        write(seed, number, 4, &mut line);
        String::from_utf8(line.finish().to_vec()).unwrap()
    }
}

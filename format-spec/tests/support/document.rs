//! Reads the tables of FORMAT.md.

/// One `<!-- table:NAME size=N -->` table.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) name: String,
    pub(crate) size: usize,
    /// offset, size, field, meaning
    pub(crate) rows: Vec<(usize, usize, String, String)>,
}

/// Cells of the Markdown table that starts behind the first line containing `heading` (its header row included or not: see `skip`).
pub(crate) fn table_behind(document: &str, heading: &str) -> Vec<Vec<String>> {
    let Some(start) = document.find(heading) else { return Vec::new() };
    let lines = document[start..].lines().skip_while(|line| !line.starts_with('|'));
    // The first two rows are the head and the rule below it.
    lines.take_while(|line| line.starts_with('|')).skip(2).map(cells).collect()
}

/// The head row of the same table.
pub(crate) fn head_behind(document: &str, heading: &str) -> Vec<String> {
    let Some(start) = document.find(heading) else { return Vec::new() };
    document[start..].lines().find(|line| line.starts_with('|')).map(cells).unwrap_or_default()
}

fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
}

/// All layout tables, in order; a row that cannot be read is an error.
pub(crate) fn layouts(document: &str) -> Result<Vec<Layout>, String> {
    let marks = document.match_indices("<!-- table:");
    marks
        .map(|(at, mark)| {
            let rest = &document[at + mark.len()..];
            let (head, behind) = rest.split_once(" -->").ok_or("a table mark is not closed")?;
            let (name, size) = head.split_once(" size=").ok_or("a table mark has no size")?;
            let size = number(size)?;
            let columns = head_behind(behind, "");
            if columns != ["offset", "size", "field", "meaning"] {
                return Err(format!("{name}: columns are {columns:?}"));
            }
            let row = |cells: Vec<String>| match <[String; 4]>::try_from(cells) {
                Ok([offset, size, field, meaning]) => Ok((number(&offset)?, number(&size)?, field, meaning)),
                Err(cells) => Err(format!("{name}: a row has the cells {cells:?}")),
            };
            let rows = table_behind(behind, "").into_iter().map(row).collect::<Result<_, String>>()?;
            Ok(Layout { name: name.to_owned(), size, rows })
        })
        .collect()
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// The text between `<!-- NAME:begin -->` and `<!-- NAME:end -->`, and its range in the document.
pub(crate) fn block(document: &str, name: &str) -> Option<(std::ops::Range<usize>, String)> {
    let begin = format!("<!-- {name}:begin -->\n");
    let start = document.find(&begin)? + begin.len();
    let end = document.find(&format!("<!-- {name}:end -->"))?;
    (start <= end).then(|| (start..end, document[start..end].to_owned()))
}

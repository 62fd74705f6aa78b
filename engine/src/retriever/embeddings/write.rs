//! Writes a file of embeddings that Python's pickle reads: the ids first, then the array's head, its values, its end.

use std::io::{self, Write};

/// Everything in front of the values: protocol 4, the ids, an array of (`rows`, `dim`) f16 or f32 values. As many ids must come as rows.
///
/// The functions are named as NumPy 1 has them; NumPy 2 knows those names too.
pub fn head<'a>(
    out: &mut dyn Write,
    ids: impl Iterator<Item = &'a str>,
    rows: usize,
    dim: usize,
    is_f32: bool,
) -> io::Result<()> {
    // PROTO 4, an empty list, MARK.
    out.write_all(b"\x80\x04](")?;
    let mut count = 0;
    for id in ids {
        count += 1;
        text(out, id)?;
        // As Python does: the reader's stack holds a thousand at a time.
        if count % 1000 == 0 {
            out.write_all(b"e(")?;
        }
    }
    assert_eq!(count, rows, "an id for each row");
    // APPENDS; _reconstruct(ndarray, (0,), b"b"); MARK of the state, version 1.
    out.write_all(b"ecnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01")?;
    for size in [rows, dim] {
        // LONG1 of 8 bytes.
        out.write_all(b"\x8a\x08")?;
        out.write_all(&(size as u64).to_le_bytes())?;
    }
    // The shape; dtype("f2", False, True) with its state (3, "<", None, None, None, -1, -1, 0).
    out.write_all(b"\x86cnumpy\ndtype\n")?;
    text(out, if is_f32 { "f4" } else { "f2" })?;
    out.write_all(b"\x89\x88\x87R(K\x03")?;
    text(out, "<")?;
    out.write_all(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")?;
    // Not Fortran's order; BINBYTES8 of the values.
    out.write_all(b"\x89\x8e")?;
    out.write_all(&value_bytes(rows, dim, is_f32).to_le_bytes())
}

/// Everything behind the values: the state's end, the pair, STOP.
pub fn tail(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(b"tb\x86.")
}

/// Bytes of all values.
pub fn value_bytes(rows: usize, dim: usize, is_f32: bool) -> u64 {
    rows as u64 * dim as u64 * if is_f32 { 4 } else { 2 }
}

/// BINUNICODE.
fn text(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(b"X")?;
    out.write_all(&(text.len() as u32).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

//! Parquet files made by hand, in which any number can be a lie: one row group of one row, a page a
//! column. As much of parquet.thrift, in Thrift's compact protocol, as that takes.

/// A file's directory, and with it the file.
pub struct Footer {
    pub columns: Vec<Column>,
    /// Row groups that the directory declares.
    pub groups: Option<u64>,
    /// Bytes behind the declared number of row groups, in place of the row group.
    pub tail: Vec<u8>,
}

/// A column with its one page.
#[derive(Clone)]
pub struct Column {
    pub name: String,
    pub page: Page,
    /// Uncompressed bytes that the directory tells; if not told, what the page does.
    pub told: Option<i64>,
    /// The width, if it is not text but of fixed width and nullable.
    pub fixed: Option<i64>,
}

#[derive(Clone)]
pub struct Page {
    /// 0 data, 2 a dictionary, 3 data in the second version.
    pub kind: i64,
    /// Thrift's type of the size: 5 is i32.
    pub size_kind: u8,
    /// Decompressed, as the header has it.
    pub size: i64,
    pub values: i64,
    pub encoding: i64,
    pub codec: i64,
    pub bytes: Vec<u8>,
    /// The length of a statistic that is not there.
    pub statistics: Option<u64>,
    /// Bytes of definition levels, of a page of the second version.
    pub levels: Option<i64>,
}

impl Page {
    /// A page of one text, which is empty.
    pub fn empty_text() -> Page {
        Page::text("")
    }

    fn text(text: &str) -> Page {
        let bytes = [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
        let size = bytes.len() as i64;
        Page {
            kind: 0,
            size_kind: 5,
            size,
            values: 1,
            encoding: 0,
            codec: 0,
            bytes,
            statistics: None,
            levels: None,
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut inner = Thrift::default();
        inner.number(1, 5, self.values).number(2, 5, self.encoding);
        let mut header = Thrift::default();
        header.number(1, 5, self.kind).number(2, self.size_kind, self.size);
        header.number(3, 5, self.bytes.len() as i64);
        if self.kind == 2 {
            return header.inner(7, inner).end();
        }
        if let Some(levels) = self.levels {
            let mut inner = Thrift::default();
            inner.number(1, 5, self.values).number(2, 5, 0).number(3, 5, self.values);
            inner.number(4, 5, self.encoding).number(5, 5, levels).number(6, 5, 0);
            return header.inner(8, inner).end();
        }
        inner.number(3, 5, 3).number(4, 5, 3);
        if let Some(length) = self.statistics {
            let mut statistics = Thrift::default();
            statistics.head(1, 8);
            varint(&mut statistics.out, length);
            inner.head(5, 12);
            inner.out.append(&mut statistics.out);
        }
        header.inner(5, inner).end()
    }
}

impl Column {
    pub fn new(name: &str, page: Page) -> Column {
        Column { name: name.into(), page, told: None, fixed: None }
    }
}

impl Footer {
    /// A table that can be re-wrapped, with one column more.
    pub fn with_note(page: Page) -> Footer {
        let empty = ["encrypted_signing_key_1", "encrypted_signing_key_2", "encrypted_auth_method_config"];
        let mut columns = vec![Column::new("organization_id", Page::text("org-1"))];
        columns.extend(empty.map(|name| Column::new(name, Page::empty_text())));
        columns.push(Column::new("note", page));
        Footer { columns, groups: None, tail: vec![] }
    }

    /// Of that many columns, and nothing else.
    pub fn with_columns(n: usize) -> Footer {
        Footer { columns: vec![Column::new("a", Page::empty_text()); n], groups: Some(0), tail: vec![0] }
    }

    pub fn file(&self) -> Vec<u8> {
        let mut file = b"PAR1".to_vec();
        let mut chunks = vec![];
        for column in &self.columns {
            let start = file.len() as i64;
            let header = column.page.header();
            file.extend(&header);
            file.extend(&column.page.bytes);
            let mut meta = Thrift::default();
            meta.number(1, 5, if column.fixed.is_some() { 7 } else { 6 });
            meta.list(2, 5, 1).zigzag(column.page.encoding);
            meta.list(3, 8, 1).binary(&column.name);
            meta.number(4, 5, column.page.codec).number(5, 6, 1);
            let told = column.told.unwrap_or(column.page.size + header.len() as i64);
            meta.number(6, 6, told).number(7, 6, file.len() as i64 - start).number(9, 6, start);
            let mut chunk = Thrift::default();
            chunk.number(2, 6, start);
            chunks.push(chunk.inner(3, meta).end());
        }
        let mut footer = Thrift::default();
        footer.number(1, 5, 2).list(2, 12, self.columns.len() as u64 + 1);
        let mut root = Thrift::default();
        root.head(4, 8).binary("schema").number(5, 5, self.columns.len() as i64);
        footer.out.extend(root.end());
        for column in &self.columns {
            let mut element = Thrift::default();
            match column.fixed {
                None => {
                    element.number(1, 5, 6).number(3, 5, 0).head(4, 8).binary(&column.name).number(6, 5, 0)
                }
                Some(width) => element
                    .number(1, 5, 7)
                    .number(2, 5, width)
                    .number(3, 5, 1)
                    .head(4, 8)
                    .binary(&column.name),
            };
            footer.out.extend(element.end());
        }
        footer.number(3, 6, 1).list(4, 12, self.groups.unwrap_or(1));
        if self.tail.is_empty() {
            let mut group = Thrift::default();
            group.list(1, 12, chunks.len() as u64);
            group.out.extend(chunks.concat());
            group.number(2, 6, file.len() as i64).number(3, 6, 1);
            footer.out.extend(group.end());
        }
        footer.out.extend(&self.tail);
        let footer = footer.end();
        file.extend(&footer);
        file.extend((footer.len() as u32).to_le_bytes());
        file.extend(b"PAR1");
        file
    }
}

/// A struct on its way.
#[derive(Default)]
struct Thrift {
    out: Vec<u8>,
    last: u8,
}

pub fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

impl Thrift {
    fn head(&mut self, id: u8, kind: u8) -> &mut Self {
        self.out.push((id - self.last) << 4 | kind);
        self.last = id;
        self
    }

    fn zigzag(&mut self, n: i64) -> &mut Self {
        varint(&mut self.out, ((n << 1) ^ (n >> 63)) as u64);
        self
    }

    fn number(&mut self, id: u8, kind: u8, n: i64) -> &mut Self {
        self.head(id, kind).zigzag(n)
    }

    fn binary(&mut self, text: &str) -> &mut Self {
        varint(&mut self.out, text.len() as u64);
        self.out.extend(text.as_bytes());
        self
    }

    fn list(&mut self, id: u8, kind: u8, size: u64) -> &mut Self {
        self.head(id, 9).out.push(0xf0 | kind);
        varint(&mut self.out, size);
        self
    }

    fn inner(&mut self, id: u8, inner: Thrift) -> &mut Self {
        self.head(id, 12).out.extend({
            let mut inner = inner;
            inner.end()
        });
        self
    }

    fn end(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.out);
        out.push(0);
        out
    }
}

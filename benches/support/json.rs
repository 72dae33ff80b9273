//! Just enough JSON for a list of layers: an array of flat objects whose values are strings
//! without escapes, whole numbers and arrays of whole numbers. Anything else is an error.

/// An object, to be taken apart key by key.
pub struct Object {
    line: usize,
    fields: Vec<(String, Value)>,
}

enum Value {
    Text(String),
    Number(usize),
    Numbers(Vec<usize>),
}

impl Object {
    /// Takes a string.
    pub fn text(&mut self, key: &str) -> Result<String, String> {
        match self.take(key)? {
            Value::Text(text) => Ok(text),
            _ => Err(self.error(&format!("`{key}` is not a string"))),
        }
    }

    /// Takes a number.
    pub fn number(&mut self, key: &str) -> Result<usize, String> {
        match self.take(key)? {
            Value::Number(number) => Ok(number),
            _ => Err(self.error(&format!("`{key}` is not a number"))),
        }
    }

    /// Takes an array of two numbers.
    pub fn pair(&mut self, key: &str) -> Result<[usize; 2], String> {
        match self.take(key)? {
            Value::Numbers(numbers) => match numbers[..] {
                [first, second] => Ok([first, second]),
                _ => Err(self.error(&format!("`{key}` does not hold two numbers"))),
            },
            _ => Err(self.error(&format!("`{key}` is not an array"))),
        }
    }

    /// Ends the object, all of whose keys have to have been taken.
    pub fn finish(self) -> Result<(), String> {
        match self.fields.first() {
            Some((key, _)) => Err(self.error(&format!("what is `{key}`?"))),
            None => Ok(()),
        }
    }

    fn take(&mut self, key: &str) -> Result<Value, String> {
        match self.fields.iter().position(|(name, _)| name == key) {
            Some(at) => Ok(self.fields.swap_remove(at).1),
            None => Err(self.error(&format!("`{key}` is missing"))),
        }
    }

    fn error(&self, message: &str) -> String {
        format!("in the object that begins in line {}: {message}", self.line)
    }
}

/// Reads the whole text.
pub fn parse(text: &str) -> Result<Vec<Object>, String> {
    let mut reader = Reader { text, at: 0 };
    let objects = reader.list('[', ']', Reader::object)?;
    match reader.peek() {
        None => Ok(objects),
        Some(_) => Err(reader.error("expected the end")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn object(&mut self) -> Result<Object, String> {
        let line = self.line();
        let mut fields: Vec<(String, Value)> = Vec::new();
        for (key, value) in self.list('{', '}', Reader::field)? {
            if fields.iter().any(|(name, _)| *name == key) {
                return Err(self.error(&format!("`{key}` comes twice")));
            }
            fields.push((key, value));
        }
        Ok(Object { line, fields })
    }

    fn field(&mut self) -> Result<(String, Value), String> {
        let key = self.string()?;
        self.expect(':')?;
        let value = match self.peek() {
            Some('"') => Value::Text(self.string()?),
            Some('[') => Value::Numbers(self.list('[', ']', Reader::digits)?),
            _ => Value::Number(self.digits()?),
        };
        Ok((key, value))
    }

    /// Items between brackets, with commas between them.
    fn list<T>(
        &mut self,
        open: char,
        close: char,
        item: impl Fn(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        self.expect(open)?;
        let mut items = Vec::new();
        if self.peek() != Some(close) {
            items.push(item(self)?);
            while self.peek() == Some(',') {
                self.expect(',')?;
                items.push(item(self)?);
            }
        }
        self.expect(close)?;
        Ok(items)
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let rest = &self.text[self.at..];
        match rest.find(|c: char| c == '"' || c == '\\' || c.is_control()) {
            Some(end) if rest[end..].starts_with('"') => {
                self.at += end + 1;
                Ok(rest[..end].to_owned())
            }
            _ => Err(self.error("expected a string of one line without escapes")),
        }
    }

    fn digits(&mut self) -> Result<usize, String> {
        self.peek();
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        match rest[..end].parse() {
            Ok(number) if end == 1 || !rest.starts_with('0') => {
                self.at += end;
                Ok(number)
            }
            _ => Err(self.error("expected a whole number")),
        }
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.peek() != Some(c) {
            return Err(self.error(&format!("expected `{c}`")));
        }
        self.at += c.len_utf8();
        Ok(())
    }

    /// The next character that is not white space, which is skipped.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.at += rest.len() - trimmed.len();
        trimmed.chars().next()
    }

    fn line(&mut self) -> usize {
        self.peek();
        1 + self.text[..self.at].matches('\n').count()
    }

    fn error(&self, message: &str) -> String {
        format!("line {}: {message}", 1 + self.text[..self.at].matches('\n').count())
    }
}

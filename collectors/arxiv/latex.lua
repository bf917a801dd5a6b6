-- Shapes what pandoc reads from LaTeX into plain Markdown with LaTeX mathematics: no attributes, no raw
-- TeX, no pictures, a caption as a paragraph, a formula on display as a block, a table as rows of cells.

local function raw(text)
  return pandoc.RawInline("markdown", text)
end

local function one_line(element)
  return raw((element.text:gsub("\n", " ")))
end

local function unwrap(element)
  return element.content
end

local function nothing()
  return {}
end

-- A formula on display stands between paragraphs, not in the middle of a line.
local function split(paragraph)
  local blocks, line = pandoc.Blocks {}, pandoc.Inlines {}
  local function flush()
    while #line > 0 and (line[1].t == "Space" or line[1].t == "SoftBreak") do
      line:remove(1)
    end
    if #line > 0 then
      blocks:insert(pandoc.Para(line))
    end
    line = pandoc.Inlines {}
  end
  for _, inline in ipairs(paragraph.content) do
    if inline.t == "Math" and inline.mathtype == "DisplayMath" then
      flush()
      blocks:insert(pandoc.Para { inline })
    else
      line:insert(inline)
    end
  end
  flush()
  return blocks
end

local raised = { ["0"] = "⁰", ["1"] = "¹", ["2"] = "²", ["3"] = "³", ["4"] = "⁴", ["5"] = "⁵", ["6"] = "⁶", ["7"] = "⁷", ["8"] = "⁸", ["9"] = "⁹" }
local lowered = { ["0"] = "₀", ["1"] = "₁", ["2"] = "₂", ["3"] = "₃", ["4"] = "₄", ["5"] = "₅", ["6"] = "₆", ["7"] = "₇", ["8"] = "₈", ["9"] = "₉" }

local function shifted(digits)
  return function(element)
    local text = pandoc.utils.stringify(element)
    return text:match("^%d+$") and pandoc.Str((text:gsub("%d", digits))) or element.content
  end
end

-- A table within a cell is words in a row.
local function without_bars(element)
  return raw((element.text:gsub("[|\n-]", "")))
end

local function cells(row)
  local line = pandoc.Inlines { raw("|") }
  for _, cell in ipairs(row.cells) do
    local content = pandoc.utils.blocks_to_inlines(cell.contents, { pandoc.Space() })
    content = content:walk { LineBreak = pandoc.Space, SoftBreak = pandoc.Space, RawInline = without_bars }
    line:insert(raw(" "))
    line:extend(content)
    line:insert(raw(string.rep(" |", cell.col_span)))
  end
  line:insert(raw("\n"))
  return line
end

-- Without padding, which would be white space that nobody wrote.
local function rows(element)
  local lines = pandoc.Inlines {}
  for _, row in ipairs(element.head.rows) do
    lines:extend(cells(row))
  end
  if #element.head.rows > 0 then
    lines:insert(raw("|" .. string.rep("---|", #element.colspecs) .. "\n"))
  end
  for _, body in ipairs(element.bodies) do
    for _, row in ipairs(body.head) do
      lines:extend(cells(row))
    end
    for _, row in ipairs(body.body) do
      lines:extend(cells(row))
    end
  end
  for _, row in ipairs(element.foot.rows) do
    lines:extend(cells(row))
  end
  local blocks = pandoc.Blocks(element.caption.long)
  blocks:insert(pandoc.Para(lines))
  return blocks
end

local function tight(list)
  for _, item in ipairs(list.content) do
    if item[1] and item[1].t == "Para" then
      item[1] = pandoc.Plain(item[1].content)
    end
  end
  return list
end

-- The first takes out, the second shapes what is left, the third writes it.
return {
  {
    Image = nothing,
    RawInline = nothing,
    RawBlock = nothing,
    SmallCaps = unwrap,
    Span = unwrap,
    Underline = unwrap,
    Superscript = shifted(raised),
    Subscript = shifted(lowered),
    Div = unwrap,
    Link = function(link)
      if link.attributes["reference"] then
        return pandoc.Str((pandoc.utils.stringify(link.content):gsub("^%[(.*)%]$", "%1")))
      end
      if pandoc.utils.stringify(link.content) == link.target then
        return pandoc.Str(link.target)
      end
      return pandoc.Link(link.content, link.target)
    end,
    Header = function(header)
      return pandoc.Header(header.level, header.content)
    end,
    Code = function(code)
      return pandoc.Code(code.text)
    end,
    CodeBlock = function(code)
      return pandoc.CodeBlock(code.text)
    end,
  },
  {
    Para = split,
    BulletList = tight,
    OrderedList = tight,
    -- Without its picture: what else stands in it, captions of parts among them, and its caption.
    Figure = function(figure)
      local blocks = figure.content:filter(function(block)
        return block.t ~= "Plain" and block.t ~= "Para" or pandoc.utils.stringify(block):match("%S")
      end)
      blocks:extend(figure.caption.long)
      return blocks
    end,
    Table = rows,
  },
  {
    -- Nothing is escaped: this text is read, not parsed again.
    Str = function(text)
      return raw(text.text)
    end,
    LineBreak = function()
      return raw("\n")
    end,
    Pandoc = function(document)
      local front = pandoc.Blocks {}
      local title, abstract = document.meta.title, document.meta.abstract
      if title then
        local line = pandoc.Inlines(title):walk { Note = nothing }
        front:insert(pandoc.Header(1, line:walk { RawInline = one_line }))
      end
      if abstract and pandoc.utils.type(abstract) == "Blocks" then
        front:insert(pandoc.Header(1, "Abstract"))
        front:extend(abstract)
      elseif abstract then
        front:insert(pandoc.Header(1, "Abstract"))
        front:insert(pandoc.Para(pandoc.Inlines(abstract)))
      end
      front:extend(document.blocks)
      return pandoc.Pandoc(front)
    end,
  },
}

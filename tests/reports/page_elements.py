"""What a person reads on the interactive page: labels, columns, headings and details."""


def labels(page):
    return page.locator("table.rows tbody .label").all_inner_texts()


def column(page, name):
    """Return the texts of a column's cells, by the id of the column."""
    heads = page.locator("table.rows thead th")
    ids = [heads.nth(place).get_attribute("data-column") for place in range(heads.count())]
    place = ids.index(name) + 1
    cells = page.locator(f"table.rows tbody tr.row > :nth-child({place})")
    return [" ".join(text.replace("★", "").split()) for text in cells.all_text_contents()]


def heading(page, name):
    return page.locator(f'table.rows th[data-column="{name}"]')


def detail_of(page, label):
    """Open a row and return what opened."""
    page.get_by_role("button", name=label, exact=True).first.click()
    return page.locator("tr.detail .opened")

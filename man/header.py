#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""header.py NAME HEADER: the manual page of a public header, for scdoc. The header's first comment is its description; each
declaration stands with the comment before it."""
import re
import sys


def literal(code):
    """Lines that go on end without their backslash: scdoc has its own use for it."""
    code = re.sub(r'\s*\\$', '', code.replace('\t', '        '), flags=re.M)
    return '```\n' + code.replace('\\', '\\\\') + '\n```\n'


def text(lines):
    """Paragraphs and lists of a comment; what is indented further stands as it is."""
    out, para, code = [], [], []

    def flush():
        if para:
            item = para[0].startswith('- ')
            line = re.sub(r'([\\*_`#\[\]|<>~.\-:])', r'\\\1', ' '.join(para)[2 if item else 0:])
            out.append(('- ' if item else '') + line + '\n')
            para.clear()
        if code:
            out.append(literal('\n'.join(code)))
            code.clear()

    for line in lines:
        if not line.strip():
            flush()
        elif re.match(r' {0,3}- ', line):
            flush()
            para.append(line.strip())
        elif line.startswith('    ') and not (para and para[0].startswith('- ')):
            if para:
                flush()
            code.append(line)
        else:
            if code:
                flush()
            para.append(line.strip())
    flush()
    return '\n'.join(out)


def comment(source):
    body = source.strip()[2:-2].strip('\n').split('\n')
    return [re.sub(r'^\s*\* ?', '', line) if i or line.startswith(' *') else line.strip() for i, line in enumerate(body)]


def chunks(source):
    """(comment or None, code) of everything between the includes and the end."""
    at = 0
    for match in re.finditer(r'^/\*.*?\*/\n', source, re.S | re.M):
        if source[at:match.start()].strip():
            yield at, match.start()
        at = match.start()
    if source[at:].strip():
        yield at, len(source)


name, path = sys.argv[1:3]
with open(path, encoding='utf-8') as file:
    header = file.read()
header = re.sub(r'^/\* SPDX.*?\*/\n', '', header, flags=re.S)
top = re.search(r'/\*.*?\*/\n', header, re.S)
about = comment(top.group(0))
rest = header[top.end():]
for noise in (r'#ifndef WEIR_\w+\n#define WEIR_\w+\n', r'#include .*\n', r'#ifdef __cplusplus\n.*?#endif\n', r'#endif\s*$', r'\bWEIR_API '):
    rest = re.sub(noise, '', rest, flags=re.S if 'cplusplus' in noise else 0)
short = ' '.join(about).split('. ')[0].split(': ')
short = re.sub(r'([\\*_])', r'\\\1', (short[1] if len(short) > 1 else short[0]).strip(' .'))
relative = path[path.index('weir/'):]

print(f'{name}(3)\n\n# NAME\n\n{name.replace("_", chr(92) + "_")} - {short}\n\n# SYNOPSIS\n\n```\n#include <{relative}>\n```\n')
print('Compile with *pkg-config --cflags --libs weir*.\n\n# DESCRIPTION\n')
print(text(about))
print('# DECLARATIONS\n')
for start, end in chunks(rest):
    part = rest[start:end].strip('\n')
    match = re.match(r'/\*.*?\*/\n?', part, re.S)
    code = (part[match.end():] if match else part).strip('\n')
    if code.strip():
        print(literal(code))
    if match:
        print(text(comment(match.group(0))))
print('# SEE ALSO\n\n*libweir*(3), *weir*(1)')

"""From files of any known kind to rows, in bounded memory."""
